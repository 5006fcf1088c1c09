"""Retry and discard: the two ways in which a person solves a message that failed.

States are changed under the lock of the partitions, a thousand rows a transaction, so that no
worker is in the middle of what changes, and none waits long. Each change is conditional on the
state once more, so both may be called again, and by two people at a time: what is solved already
is not counted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

from outbox_inbox.contexts import Context, get_context
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import Delivery, DeliveryState, OutboxMessage, OutboxState, Queue
from outbox_inbox.queues.partitions import operator_lock
from outbox_inbox.queues.statements import unblock_deliveries, unblock_messages
from outbox_inbox.queues.statements.dialects import dialect
from outbox_inbox.queues.statements.moved import refusals_explained
from outbox_inbox.queues.wakeup import nudge

from .selection import IDLE, MODELS, Rows, Selection, Which, condition, rows

_CHUNK = 1000  # rows whose state changes in one transaction

Change = Callable[[BaseDatabaseWrapper, Context, Queue, Rows], int]


@dataclass(frozen=True, slots=True)
class Report:
    """How many rows were changed, or (dry run) would be.

    Fields:
        outbox: messages of the outbox.
        inbox: deliveries.
    """

    outbox: int = 0
    inbox: int = 0

    @property
    def total(self) -> int:
        """Both together."""
        return self.outbox + self.inbox


def retry(selection: Selection, *, dry_run: bool = False) -> Report:
    """Try the selected messages again at once, with all their attempts.

    Selected are those that failed: dead, or backing off. The followers of a key go on waiting
    until its head is solved. Runs in transactions of its own.

    Arguments:
        dry_run: change nothing, and count.

    Raises:
        NotAContext: there is no such context.
    """
    return _apply(selection, "failed", _retry, dry_run=dry_run)


def discard(
    selection: Selection, reason: str, *, unfinished: bool = False, dry_run: bool = False
) -> Report:
    """Set the selected messages aside for good, and let those go that waited behind them.

    Selected are the dead ones; a message selected by its id may be in any unfinished state.
    Runs in transactions of its own.

    Arguments:
        reason: why, in the operator's words; it is kept with the message.
        unfinished: also those that are not dead: scheduled, about to be sent or handled, backing
            off, or waiting.
        dry_run: change nothing, and count.

    Raises:
        NotAContext: there is no such context.
        ValueError: the reason is empty.
    """
    which: Which = "unfinished" if unfinished or selection.id is not None else "dead"
    return _apply(selection, which, _discarding(reason), dry_run=dry_run)


def retry_rows(chosen: QuerySet[OutboxMessage] | QuerySet[Delivery]) -> int:
    """Retry the rows of a query set, of any contexts, as `retry` does; return how many.

    Raises:
        NotAContext: a row's context does not exist any more.
        OutboxInboxError: a row's context has been moved to another database.
    """
    return _apply_to_rows(chosen, "failed", _retry)


def discard_rows(chosen: QuerySet[OutboxMessage] | QuerySet[Delivery], reason: str) -> int:
    """Discard the rows of a query set, in any unfinished state, as `discard`; return how many.

    Raises:
        NotAContext, OutboxInboxError: as `retry_rows`.
        ValueError: the reason is empty.
    """
    return _apply_to_rows(chosen, "unfinished", _discarding(reason))


def _apply(selection: Selection, which: Which, change: Change, *, dry_run: bool) -> Report:
    context = get_context(selection.context)
    counts = {}
    for queue, chosen in rows(selection, which):
        found = chosen.count() if dry_run else _in_chunks(context, queue, chosen, which, change)
        counts[queue.value] = found
    return Report(**counts)


def _apply_to_rows(chosen: Rows, which: Which, change: Change) -> int:
    queue = Queue.OUTBOX if issubclass(chosen.model, OutboxMessage) else Queue.INBOX
    labels = sorted(set(chosen.order_by().values_list("context", flat=True)))
    total = 0
    for context in map(get_context, labels):
        # Ids mean something in their own database only.
        if context.database != chosen.db:
            raise OutboxInboxError(
                f"these messages are in the database {chosen.db!r}, and the context "
                f"{context.label!r} lives on {context.database!r} now; select them there"
            )
        mine = chosen.filter(condition(queue, which), context=context.label)
        total += _in_chunks(context, queue, mine, which, change)
    return total


def _in_chunks(context: Context, queue: Queue, chosen: Rows, which: Which, change: Change) -> int:
    model = MODELS[queue]
    count = 0
    for partitions, ids in _chunks(chosen):
        with refusals_explained(), operator_lock(context, queue, partitions) as connection:
            # The state is asked for again, now that nobody else can change it.
            held = model.objects.using(context.database).filter(
                condition(queue, which), pk__in=ids, partition__in=partitions
            )
            if dialect(connection).waits_for_inserts:
                # By the ids alone, so that no row is waited for that somebody is inserting.
                here = model.objects.using(context.database)
                held = here.filter(pk__in=list(held.values_list("pk", flat=True)))
            count += change(connection, context, queue, held)
    return count


def _chunks(chosen: Rows) -> Iterator[tuple[set[int], list[int]]]:
    # Heads last: a head that is discarded lets its followers go, and those that are selected
    # as well must be discarded before a worker sees them.
    found = list(chosen.order_by("holds", "pk").values_list("pk", "partition"))
    for start in range(0, len(found), _CHUNK):
        chunk = found[start : start + _CHUNK]
        yield {partition for _, partition in chunk}, [pk for pk, _ in chunk]


def _retry(_connection: BaseDatabaseWrapper, context: Context, queue: Queue, held: Rows) -> int:
    nudge(context, "relay" if queue == Queue.OUTBOX else "dispatch")
    # `holds` stays: the followers wait until this attempt has succeeded.
    return held.update(state=IDLE[queue], attempts=0, due_at=None, finished_at=None)


def _discarding(reason: str) -> Change:
    text = reason.strip()
    if not text:
        raise ValueError("a reason must be given: whoever finds the message later wants to know")

    def change(connection: BaseDatabaseWrapper, context: Context, queue: Queue, held: Rows) -> int:
        heads = _heads(queue, held)
        state = OutboxState.DISCARDED if queue == Queue.OUTBOX else DeliveryState.DISCARDED
        now = RawSQL(dialect(connection).now, ())
        count = held.update(state=state, error=text, holds=False, due_at=None, finished_at=now)
        _release(connection, context, queue, heads)
        return count

    return change


def _heads(queue: Queue, held: Rows) -> list[tuple[Any, ...]]:
    """Return the partition of each row that others wait for, and what they have in common."""
    shared = ("key",) if queue == Queue.OUTBOX else ("consumer", "key")
    waited_for = held.filter(holds=True, key__isnull=False).order_by("partition")
    return list(waited_for.values_list("partition", *shared))


def _release(
    connection: BaseDatabaseWrapper,
    context: Context,
    queue: Queue,
    heads: Sequence[tuple[Any, ...]],
) -> None:
    if heads:
        nudge(context, "relay" if queue == Queue.OUTBOX else "dispatch")
    for partition, members in groupby(heads, key=itemgetter(0)):
        if queue == Queue.OUTBOX:
            unblock_messages(connection, context.label, partition, [key for _, key in members])
        else:
            pairs = [(consumer, key) for _, consumer, key in members]
            unblock_deliveries(connection, context.label, partition, pairs)
