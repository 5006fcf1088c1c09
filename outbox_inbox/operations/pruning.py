"""Prune: remove rows that are finished and old enough, and no others.

The tables are walked by id from the old end, a thousand rows a transaction, so that no other
transaction waits long. Ids grow nearly with age: the walk ends at a thousand rows none of which
is old enough, so the young part of a large table is not read. It may run at any time, also several
times at once.
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

from .database_time import database_time

_CHUNK = 1000  # rows read in one statement, and removed in one transaction

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
    """How many rows of one context were removed, or (dry run) would be.

    Fields:
        context: label of the context.
        outbox: messages of the outbox, sent or discarded.
        deliveries: deliveries, done or discarded; their failed attempts went with them.
        inbox: messages of the inbox without deliveries; their ids are not recognised any more.
        quarantine: quarantined messages, released or discarded.
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
    """Remove finished messages and deliveries, and ids that no duplicate can have any more.

    A message of the inbox is what makes a duplicate recognisable: it stays for ``DEDUPLICATION``,
    whatever ``older_than`` says (rule O8). Stored events of streams are never removed, nor is a
    message that is still quarantined.

    Arguments:
        chosen: which contexts; None (default) means all.
        older_than: age since they were finished; default ``RETENTION``.
        dry_run: remove nothing, and count.
        stop: called between transactions; true ends the call.

    Returns:
        One entry a context.
    """
    wanted = contexts() if chosen is None else tuple(chosen)
    age = settings().retention if older_than is None else older_than
    found: Counter[tuple[str, str]] = Counter()
    for using in sorted({context.database for context in wanted}):
        labels = {each.label for each in wanted if each.database == using}
        # A transfer compares these rows with their copies: they must not disappear meanwhile.
        labels -= _labels_in_transfer(using)
        for name, chunks in _prunable_chunks(using, sorted(labels), age):
            for chunk in chunks:
                if stop():
                    break
                found.update((label, name) for label in chunk.values())
                if not dry_run:
                    _remove(using, name, list(chunk))
    return [
        Pruned(context=context.label, **{name: found[context.label, name] for name in _MODELS})
        for context in wanted
    ]


Chunks = Iterator[dict[int, str]]
"""Ids of rows to be removed -> their context, a chunk at a time."""


def _prunable_chunks(using: str, labels: list[str], age: timedelta) -> Iterator[tuple[str, Chunks]]:
    now = database_time(connections[using])
    before, forgotten = now - age, now - settings().deduplication
    sent = Q(state__in=_SENT, finished_at__lte=before)
    done = Q(state__in=_DONE, finished_at__lte=before)
    kept = Delivery.objects.using(using).filter(message=OuterRef("pk")).exclude(done)
    outbox = OutboxMessage.objects.using(using).filter(context__in=labels)
    yield "outbox", _walk_table(outbox, "recorded_at", before, sent)
    deliveries = Delivery.objects.using(using).filter(context__in=labels)
    yield "deliveries", _walk_table(deliveries, "message__received_at", before, done)
    inbox = InboxMessage.objects.using(using).filter(context__in=labels)
    unused = Q(~Exists(kept), received_at__lte=forgotten)
    yield "inbox", _walk_table(inbox, "received_at", forgotten, unused)
    solved = Q(state__in=_SOLVED, finished_at__lte=before)
    quarantined = QuarantinedMessage.objects.using(using).filter(context__in=labels)
    yield "quarantine", _walk_table(quarantined, "received_at", before, solved)
    processes = ProcessState.objects.using(using).filter(context__in=labels)
    yield "processes", _walk_table(processes, "created_at", before, Q(finished_at__lte=before))


def _walk_table(rows: QuerySet[Any], created: str, before: datetime, wanted: Q) -> Chunks:
    """Yield the wanted rows, until a stretch in which every row was created after ``before``."""
    last = 0
    while True:
        stretch = rows.filter(pk__gt=last).order_by("pk").values_list("pk", created)[:_CHUNK]
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
        # Only the keys: Django reads the rows to find those that refer to them, but not their text.
        _MODELS[name].objects.using(using).filter(pk__in=ids).only("pk").delete()


def _labels_in_transfer(using: str) -> set[str]:
    """Return the contexts that are, or were, being transferred from or to a database."""
    rows = Transfer.objects.using(using).exclude(state=TransferState.OPEN)
    return set(rows.values_list("context", flat=True))
