"""Prune: remove rows that are finished and old enough, and the texts of those that stay for their ids.

The tables are walked by id from the old end, a thousand rows a transaction, so that no other
transaction waits long. Ids grow nearly with age: the walk ends at a thousand rows none of which
is old enough, so the young part of a large table is not read. It may run at any time, also several
times at once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connections, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from outbox_inbox.conf import settings
from outbox_inbox.conf.times import MOST
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
from outbox_inbox.queues.statements.dialects import database_time, stored_time

from .emptied_messages import empty_messages, full_messages

_CHUNK = 1000  # rows read in one statement, and removed in one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many rows of one context were removed, or (dry run) would be.

    Fields:
        outbox: messages of the outbox, sent or discarded.
        deliveries: deliveries, done or discarded; their failed attempts went with them.
        payloads: messages of the inbox without deliveries, whose payload and headers were removed.
        inbox: such messages that were removed; their ids are not recognised any more.
        quarantine: quarantined messages, released or discarded.
        processes: instances of processes that have finished.
    """

    context: str
    outbox: int = 0
    deliveries: int = 0
    payloads: int = 0
    inbox: int = 0
    quarantine: int = 0
    processes: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(getattr(self, name) for name in _NAMES)


def prune(
    chosen: Iterable[Context] | None = None,
    *,
    older_than: timedelta | None = None,
    dry_run: bool = False,
    stop: Callable[[], bool] = never,
) -> list[Pruned]:
    """Remove finished messages and deliveries, and ids that no duplicate can have any more.

    A message of the inbox is what makes a duplicate recognisable: it stays for ``DEDUPLICATION``,
    whatever ``older_than`` says (rule O8), but its payload and headers go with its deliveries. Stored
    events of streams are never removed, nor is a message that is still quarantined.

    Arguments:
        chosen: which contexts; None (default) means all.
        older_than: age since they were finished, at most 36,500 days; default ``RETENTION``.
        dry_run: remove nothing, and count.
        stop: called between transactions; true ends the call.

    Raises:
        ValueError: ``older_than`` is negative or too long.
    """
    if older_than is not None and not timedelta(0) <= older_than <= MOST:
        raise ValueError(f"older_than={older_than!r}; expected a duration from 0 to {MOST}")
    wanted = contexts() if chosen is None else tuple(chosen)
    age = settings().retention if older_than is None else older_than
    found: Counter[tuple[str, str]] = Counter()
    for using in sorted({context.database for context in wanted}):
        labels = {each.label for each in wanted if each.database == using}
        # A transfer compares these rows with their copies: they must not disappear meanwhile.
        labels -= _labels_in_transfer(using)
        for name, rows, created, before, finished in _prunable_tables(using, age):
            chosen_rows = rows.filter(context__in=labels)
            for chunk in _finished_chunks(chosen_rows, created, before, finished):
                if stop():
                    break
                found.update((label, name) for label in chunk.values())
                if chunk and not dry_run:
                    with transaction.atomic(using=using):
                        if name == "payloads":
                            empty_messages(using, list(chunk))
                        else:
                            # Django reads the rows to find those that refer to them: only their keys.
                            rows.filter(pk__in=list(chunk)).only("pk").delete()
    return [
        Pruned(context=context.label, **{name: found[context.label, name] for name in _NAMES})
        for context in wanted
    ]


_NAMES = [each.name for each in fields(Pruned) if each.name != "context"]


def _prunable_tables(
    using: str, age: timedelta
) -> Iterator[tuple[str, QuerySet[Any], str, datetime, Q]]:
    """Yield a name, the rows, the column of their age, the age to prune, and what is finished."""
    # By the clock of the database and by that of this process. One that leaps ahead alone would have ids
    # forgotten that a duplicate can still have.
    now = stored_time(min(database_time(connections[using]), datetime.now(UTC)))
    before, forgotten = now - age, now - settings().deduplication
    old = Q(finished_at__lte=before)
    sent = old & Q(state__in=(OutboxState.SENT, OutboxState.DISCARDED))
    done = old & Q(state__in=(DeliveryState.DONE, DeliveryState.DISCARDED))
    solved = old & Q(state__in=(QuarantineState.RELEASED, QuarantineState.DISCARDED))
    deliveries = Delivery.objects.using(using)
    kept = deliveries.filter(message=OuterRef("pk")).exclude(done)
    unused = Q(~Exists(kept))
    yield "outbox", OutboxMessage.objects.using(using), "recorded_at", before, sent
    yield "deliveries", deliveries, "message__received_at", before, done
    over = unused & Q(received_at__lte=before)
    yield "payloads", full_messages(using), "received_at", before, over
    gone = unused & Q(received_at__lte=forgotten)
    yield "inbox", InboxMessage.objects.using(using), "received_at", forgotten, gone
    yield "quarantine", QuarantinedMessage.objects.using(using), "received_at", before, solved
    yield "processes", ProcessState.objects.using(using), "created_at", before, old


def _finished_chunks(
    rows: QuerySet[Any], created: str, before: datetime, finished: Q
) -> Iterator[dict[int, str]]:
    """Yield the ids of finished rows with their contexts, until all rows of a stretch are young."""
    last = 0
    while True:
        ages = dict(stretch(rows, created, last))
        if all(stamp > before for stamp in ages.values()):
            return
        yield dict(rows.filter(finished, pk__in=list(ages)).values_list("pk", "context"))
        last = max(ages)


def stretch(rows: QuerySet[Any], created: str, last: int) -> QuerySet[Any, tuple[int, datetime]]:
    """Return the rows behind an id, at most as many as are looked at together, with their times."""
    return rows.filter(pk__gt=last).order_by("pk").values_list("pk", created)[:_CHUNK]


def _labels_in_transfer(using: str) -> set[str]:
    """Return the contexts that are, or were, being transferred from or to a database."""
    rows = Transfer.objects.using(using).exclude(state=TransferState.OPEN)
    return set(rows.values_list("context", flat=True))
