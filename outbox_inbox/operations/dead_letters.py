"""Retry and discard: the two ways in which an operator solves a message that failed.

States change under the lock of the partitions, a thousand rows a transaction: no worker is handling
what changes, and none waits long. Each change checks the state again, so both functions may be
called again, and by two operators at a time: what is solved already is not counted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from django.db import connections
from django.db.models import Case, QuerySet, TextField, Value, When
from django.db.models.expressions import RawSQL
from django.db.models.functions import Concat

from outbox_inbox.contexts import Context, get_context
from outbox_inbox.models import Delivery, OperatorVerb, OutboxMessage, Queue
from outbox_inbox.queues.partitions import operator_lock
from outbox_inbox.queues.statements import unblock_deliveries, unblock_messages
from outbox_inbox.queues.statements.dialects import dialect
from outbox_inbox.queues.statements.moved import refusals_explained
from outbox_inbox.queues.wakeup import nudge

from .selection import (
    IDLE,
    MODELS,
    MOVER_OF,
    Rows,
    Selection,
    StateGroup,
    checked_reason,
    has_state,
    rows_by_context,
    selected_rows,
)
from .traces import keep_trace

_BEFORE = "the error before: "
_CHUNK = 1000  # rows whose state changes in one transaction

RowChange = Callable[[Context, Queue, Rows], int]


@dataclass(frozen=True, slots=True)
class ChangedRows:
    """How many messages of the outbox and deliveries of the inbox were (dry run: would be) changed."""

    outbox: int = 0
    inbox: int = 0

    @property
    def total(self) -> int:
        """Both together."""
        return self.outbox + self.inbox


def retry(selection: Selection, *, dry_run: bool = False, by: str | None = None) -> ChangedRows:
    """Try the selected messages again at once, with all their attempts.

    Selected are those that failed: dead, or backing off. The followers of a key go on waiting
    until its head is solved. The attempts that have failed stay in the history of each message
    (`OperatorAction`), and MAX_ATTEMPTS counts anew. Runs in transactions of its own.

    Arguments:
        dry_run: change nothing, and count.
        by: the operator, for the history; None (default): user and host of this process.
    """
    return _change_selected(selection, "failed", _retry_by(by), dry_run=dry_run)


def discard(
    selection: Selection,
    reason: str,
    *,
    unfinished: bool = False,
    dry_run: bool = False,
    by: str | None = None,
) -> ChangedRows:
    """Give the selected messages up for good, and unblock the messages that waited behind them.

    Selected are the dead ones; a message selected by its id may be in any unfinished state.
    Runs in transactions of its own.

    Arguments:
        reason: why, in the operator's words; it is kept with the message, before its error.
        unfinished: also those that are not dead: scheduled, about to be sent or handled, backing
            off, or waiting.
        dry_run: change nothing, and count.
        by: the operator, for the history; None (default): user and host of this process.

    Raises:
        ValueError: the reason is empty.
    """
    states: StateGroup = "unfinished" if unfinished or selection.id is not None else "dead"
    return _change_selected(selection, states, _discard_for(reason, by), dry_run=dry_run)


def retry_rows(chosen: QuerySet[OutboxMessage] | QuerySet[Delivery], by: str | None = None) -> int:
    """Do as `retry` with the rows of a query set; return how many; raises as `rows_by_context`."""
    return _change_rows(chosen, "failed", _retry_by(by))


def discard_rows(
    chosen: QuerySet[OutboxMessage] | QuerySet[Delivery], reason: str, by: str | None = None
) -> int:
    """Do as `discard` with the unfinished rows of a query set; raises as `rows_by_context`, too."""
    return _change_rows(chosen, "unfinished", _discard_for(reason, by))


def _change_selected(
    selection: Selection, states: StateGroup, change: RowChange, *, dry_run: bool
) -> ChangedRows:
    context = get_context(selection.context)
    return ChangedRows(
        **{
            queue.value: chosen.count()
            if dry_run
            else _change_in_chunks(context, queue, chosen, states, change)
            for queue, chosen in selected_rows(selection, states)
        }
    )


def _change_rows(chosen: Rows, states: StateGroup, change: RowChange) -> int:
    queue = Queue.OUTBOX if issubclass(chosen.model, OutboxMessage) else Queue.INBOX
    return sum(
        _change_in_chunks(context, queue, rows.filter(has_state(queue, states)), states, change)
        for context, rows in rows_by_context(chosen)
    )


def _change_in_chunks(
    context: Context, queue: Queue, chosen: Rows, states: StateGroup, change: RowChange
) -> int:
    count = 0
    for partitions, ids in _chunks(chosen):
        with refusals_explained(), operator_lock(context, queue, partitions) as connection:
            rows = MODELS[queue].objects.using(context.database)
            # Before the lock a worker, or another operator, may have changed the state.
            locked = rows.filter(has_state(queue, states), pk__in=ids, partition__in=partitions)
            if dialect(connection).waits_for_inserts:
                # By ids alone: a range of an index would wait for rows that others are inserting.
                locked = rows.filter(pk__in=list(locked.values_list("pk", flat=True)))
            count += change(context, queue, locked)
    return count


def _chunks(chosen: Rows) -> Iterator[tuple[set[int], list[int]]]:
    # Heads last: discarding a head unblocks its followers, and a worker would handle those that are
    # selected as well before the next chunk discards them.
    found = list(chosen.order_by("holds", "pk").values_list("pk", "partition"))
    for start in range(0, len(found), _CHUNK):
        chunk = found[start : start + _CHUNK]
        yield {partition for _, partition in chunk}, [pk for pk, _ in chunk]


def _retry_by(by: str | None) -> RowChange:
    def change(context: Context, queue: Queue, locked: Rows) -> int:
        nudge(context, MOVER_OF[queue])
        keep_trace(context, locked, OperatorVerb.RETRIED, by)
        # `holds` stays: released now, the followers would overtake a head that fails again.
        return locked.update(state=IDLE[queue], attempts=0, due_at=None, finished_at=None)

    return change


def _discard_for(reason: str, by: str | None) -> RowChange:
    text = checked_reason(reason)
    error = Case(
        When(error="", then=Value(text)),
        default=Concat(Value(f"{text}\n{_BEFORE}"), "error"),
        output_field=TextField(),
    )

    def change(context: Context, queue: Queue, locked: Rows) -> int:
        connection = connections[context.database]
        shared = ["key"] if queue == Queue.OUTBOX else ["consumer", "key"]
        blocking = locked.filter(holds=True, key__isnull=False).order_by("partition")
        heads = list(blocking.values_list("partition", *shared))
        now = RawSQL(dialect(connection).now, ())
        keep_trace(context, locked, OperatorVerb.DISCARDED, by, reason=text)
        count = locked.update(
            state="discarded", error=error, holds=False, due_at=None, finished_at=now
        )
        if heads:
            nudge(context, MOVER_OF[queue])
        for partition, members in groupby(heads, key=itemgetter(0)):
            names = [member[1:] for member in members]
            if queue == Queue.OUTBOX:
                unblock_messages(connection, context.label, partition, [key for (key,) in names])
            else:
                unblock_deliveries(connection, context.label, partition, names)
        return count

    return change
