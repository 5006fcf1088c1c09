"""Prune: remove what is finished and old enough, and never anything else.

The tables are walked by id from the old end, a thousand rows a transaction, so nobody waits for
it. Rows are as old as their ids, nearly: a stretch in which nothing is old enough ends the walk,
so the young part of a big table is not read. It may run at any time, several times at once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from outbox_inbox.conf import settings
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.models import (
    Delivery,
    DeliveryState,
    InboxMessage,
    OutboxMessage,
    OutboxState,
    ProcessState,
    QuarantinedMessage,
    QuarantineState,
    Transfer,
    TransferState,
)
from outbox_inbox.queues.outcome import never
from outbox_inbox.queues.statements.dialects import as_datetime, dialect

_CHUNK = 1000  # rows looked at in one statement, and removed in one transaction

_SENT = (OutboxState.SENT, OutboxState.DISCARDED)
_MODELS: dict[
    str,
    type[OutboxMessage]
    | type[Delivery]
    | type[InboxMessage]
    | type[QuarantinedMessage]
    | type[ProcessState],
] = {
    "outbox": OutboxMessage,
    "deliveries": Delivery,
    "inbox": InboxMessage,
    "quarantine": QuarantinedMessage,
    "processes": ProcessState,
}
_SOLVED = (QuarantineState.RELEASED, QuarantineState.DISCARDED)
_DONE = (DeliveryState.DONE, DeliveryState.DISCARDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was removed of one context, or (dry run) would be.

    Fields:
        context: label of the context.
        outbox: messages of the outbox, sent or discarded.
        deliveries: deliveries, done or discarded; their failed attempts went with them.
        inbox: messages of the inbox without deliveries; with them goes the memory of their ids.
        quarantine: messages that had been kept aside, released or discarded.
        processes: instances of processes that have finished.
    """

    context: str
    outbox: int = 0
    deliveries: int = 0
    inbox: int = 0
    quarantine: int = 0
    processes: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.outbox + self.deliveries + self.inbox + self.quarantine + self.processes


def prune(
    chosen: Iterable[Context] | None = None,
    *,
    older_than: timedelta | None = None,
    dry_run: bool = False,
    stop: Callable[[], bool] = never,
) -> list[Pruned]:
    """Remove finished messages and deliveries, and ids that need not be remembered any more.

    A message of the inbox is the memory of its id: it stays for ``DEDUPLICATION``, whatever
    ``older_than`` says (rule O8). Stored events of streams are never removed, and no message
    that is still quarantined.

    Arguments:
        chosen: which contexts; None (default) means all.
        older_than: age since they were finished; default ``RETENTION``.
        dry_run: remove nothing, and count.
        stop: asked between transactions; true ends the call.

    Returns:
        One entry a context.
    """
    wanted = contexts() if chosen is None else tuple(chosen)
    age = settings().retention if older_than is None else older_than
    found: Counter[tuple[str, str]] = Counter()
    for using in sorted({context.database for context in wanted}):
        # What is being compared with its copy on another database must not change.
        moving = _moving(using)
        labels = [
            each.label for each in wanted if each.database == using and each.label not in moving
        ]
        for name, walk in _walks(using, labels, age):
            for gone in walk:
                if stop():
                    break
                found.update((label, name) for label in gone.values())
                if not dry_run:
                    _remove(using, name, list(gone))
    return [
        Pruned(
            context=context.label,
            **{name: found[context.label, name] for name in _MODELS},
        )
        for context in wanted
    ]


Walk = Iterator[dict[int, str]]
"""Ids of rows to be removed -> their context, a chunk at a time."""


def _walks(using: str, labels: list[str], age: timedelta) -> Iterator[tuple[str, Walk]]:
    now = _clock(using)
    before, forgotten = now - age, now - settings().deduplication
    sent = Q(state__in=_SENT, finished_at__lte=before)
    done = Q(state__in=_DONE, finished_at__lte=before)
    kept = Delivery.objects.using(using).filter(message=OuterRef("pk")).exclude(done)
    outbox = OutboxMessage.objects.using(using).filter(context__in=labels)
    yield "outbox", _walk(outbox, "recorded_at", before, sent)
    deliveries = Delivery.objects.using(using).filter(context__in=labels)
    yield "deliveries", _walk(deliveries, "message__received_at", before, done)
    inbox = InboxMessage.objects.using(using).filter(context__in=labels)
    unused = Q(~Exists(kept), received_at__lte=forgotten)
    yield "inbox", _walk(inbox, "received_at", forgotten, unused)
    solved = Q(state__in=_SOLVED, finished_at__lte=before)
    aside = QuarantinedMessage.objects.using(using).filter(context__in=labels)
    yield "quarantine", _walk(aside, "received_at", before, solved)
    processes = ProcessState.objects.using(using).filter(context__in=labels)
    yield "processes", _walk(processes, "created_at", before, Q(finished_at__lte=before))


def _walk(rows: QuerySet[Any], came: str, before: datetime, wanted: Q) -> Walk:
    """Yield what is wanted, until a stretch in which every row came later than ``before``."""
    last = 0
    while True:
        stretch = rows.filter(pk__gt=last).order_by("pk").values_list("pk", came)[:_CHUNK]
        found = list(stretch)
        if not found or all(stamp > before for _, stamp in found):
            return
        ids = [pk for pk, _ in found]
        yield dict(rows.filter(wanted, pk__in=ids).values_list("pk", "context"))
        last = ids[-1]


def _remove(using: str, name: str, ids: list[int]) -> None:
    if not ids:
        return
    with transaction.atomic(using=using):
        # Only the keys: what goes with a row is looked up, and its text is not needed for that.
        _MODELS[name].objects.using(using).filter(pk__in=ids).only("pk").delete()


def _moving(using: str) -> set[str]:
    """Return the contexts that are, or were, being handed over from or to a database."""
    rows = Transfer.objects.using(using).exclude(state=TransferState.OPEN)
    return set(rows.values_list("context", flat=True))


def _clock(using: str) -> datetime:
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {dialect(connection).now}", [])
        return as_datetime(connection, cursor.fetchone()[0])
