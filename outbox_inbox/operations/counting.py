"""Counts what is in the queues, from the partial indexes: finished rows are never read.

A count that reads them takes minutes on a table with millions of finished rows.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.contexts import Context, contexts
from outbox_inbox.models import (
    InboxMessage,
    Partition,
    QuarantinedMessage,
    QuarantineReason,
    Queue,
    table,
)
from outbox_inbox.outbox.stream_relay import unsent
from outbox_inbox.queues.statements.common import fetch_rows
from outbox_inbox.queues.statements.dialects import as_datetime, database_time, dialect

from .selection import DEAD, DUE, IDLE, MODELS, QUARANTINED, TIMED, WAITING
from .stats import ParkedKey, PartitionState, QueueStats

_STATES = {
    Queue.OUTBOX: ("pending", "backing_off", "waiting", "dead"),
    Queue.INBOX: ("ready", "backing_off", "waiting", "dead"),
}
_SCHEDULED = "scheduled"  # due in the future, so it does not count as unfinished
_SHOWN = 5  # parked keys


def queue_stats(chosen: Iterable[Context] | None = None) -> list[QueueStats]:
    """Return the state of both queues of each context.

    A handful of statements a database, whatever the number of contexts; it takes no locks.

    Arguments:
        chosen: which contexts; None (default) means all.
    """
    wanted = contexts() if chosen is None else tuple(chosen)
    found = {
        (using, queue): _count_queue(connections[using], queue)
        for using in sorted({context.database for context in wanted})
        for queue in MODELS
    }
    return [
        _stats(context, queue, found[context.database, queue][context.label])
        for context in wanted
        for queue in MODELS
    ]


def due_count(context: Context, queue: Queue) -> int:
    """Return how many messages of a queue are due now; from an index, in one statement."""
    connection = connections[context.database]
    name, idle = table(MODELS[queue]), IDLE[queue]
    found = fetch_rows(
        connection,
        f"SELECT count(*) FROM {name} WHERE context = %s AND {DUE.format(idle=idle)}"
        f" UNION ALL SELECT count(*) FROM {name} WHERE context = %s AND {TIMED.format(idle=idle)}"
        f" AND due_at <= {dialect(connection).now}",
        [context.label, context.label],
    )
    in_stream = unsent(context).events if queue == Queue.OUTBOX else 0
    return int(sum(count for (count,) in found)) + in_stream


@dataclass(slots=True)
class _Counts:
    """What is in one queue of one context."""

    depth: Counter[str] = field(default_factory=Counter)
    oldest: float | None = None
    numbers: set[int] = field(default_factory=set)
    parked: list[ParkedKey] = field(default_factory=list)
    parked_keys: int = 0
    existing: set[int] = field(default_factory=set)
    partitions: list[PartitionState] = field(default_factory=list)
    quarantine: dict[QuarantineReason, int] = field(default_factory=dict)

    def note_age(self, age: float) -> None:
        self.oldest = max(age, self.oldest or 0.0)


_ByContext = dict[str, _Counts]


def _stats(context: Context, queue: Queue, found: _Counts) -> QueueStats:
    if queue == Queue.OUTBOX:
        _add_stream(context, found)
    # Workers create the partitions: before the first one has run, none is missing.
    stray = found.numbers - found.existing if found.existing else set[int]()
    reason = "messages name it, and it does not exist; run manage.py repartition"
    return QueueStats(
        context=context.label,
        queue=queue,
        database=context.database,
        depth={state: found.depth[state] for state in _STATES[queue]},
        scheduled=found.depth[_SCHEDULED],
        oldest=found.oldest,
        parked_keys=found.parked_keys,
        parked=found.parked,
        partitions=[
            *found.partitions,
            *(
                PartitionState(queue=queue, number=number, state="missing", reason=reason)
                for number in sorted(stray)
            ),
        ],
        quarantine=found.quarantine,
    )


def _add_stream(context: Context, found: _Counts) -> None:
    """Add what the relay has still to send from the stream, where that is the source."""
    lag = unsent(context)
    if lag.events and lag.since is not None:
        found.depth["pending"] += lag.events
        now = database_time(connections[context.database])
        found.note_age((now - lag.since).total_seconds())


def _count_queue(connection: BaseDatabaseWrapper, queue: Queue) -> _ByContext:
    found: _ByContext = defaultdict(_Counts)
    _count_states(connection, queue, found)
    _find_parked_keys(connection, queue, found)
    _find_partitions(connection, queue, found)
    if queue == Queue.INBOX:
        _count_quarantine(connection, found)
    return found


def _count_states(connection: BaseDatabaseWrapper, queue: Queue, found: _ByContext) -> None:
    # One aggregate an index. A retry that has come due still counts as backing off; a scheduled
    # message that has come due counts as pending, and its age from then on.
    sql, name = dialect(connection), table(MODELS[queue])
    timed = (
        f"CASE WHEN attempts > 0 THEN 'backing_off' WHEN due_at > {sql.now} THEN '{_SCHEDULED}'"
        f" ELSE '{IDLE[queue]}' END"
    )
    parts = (
        (f"'{IDLE[queue]}'", DUE, "NULL"),
        (timed, TIMED, "MIN(CASE WHEN attempts = 0 THEN due_at END)"),
        ("'waiting'", WAITING, "NULL"),
        ("'dead'", DEAD, "NULL"),
    )
    statement = " UNION ALL ".join(
        f"SELECT context, {sql.partition}, {state} AS state, COUNT(*), MIN(id), {since}"
        f" FROM {name} WHERE {where.format(idle=IDLE[queue])} GROUP BY context, {sql.partition}, 3"
        for state, where, since in parts
    )
    rows = fetch_rows(connection, statement, [])
    first: dict[int, str] = {}
    clock = database_time(connection)
    for label, number, state, count, lowest, since in rows:
        found[label].depth[state] += count
        found[label].numbers.add(number)
        if since is None:
            first[lowest] = label
        elif state != _SCHEDULED:
            found[label].note_age((clock - as_datetime(connection, since)).total_seconds())
    for label, stamp in _creation_times(connection, queue, first):
        found[label].note_age((clock - as_datetime(connection, stamp)).total_seconds())


def _creation_times(
    connection: BaseDatabaseWrapper, queue: Queue, first: Mapping[int, str]
) -> Iterator[tuple[str, Any]]:
    """Yield the contexts of the rows with these ids, and when the rows were created."""
    sql = dialect(connection)
    source = (
        f"SELECT id, recorded_at FROM {table(MODELS[queue])} WHERE id {sql.among}"
        if queue == Queue.OUTBOX
        else f"SELECT d.id, m.received_at FROM {table(MODELS[queue])} d"
        f" JOIN {table(InboxMessage)} m ON m.id = d.message_id WHERE d.id {sql.among}"
    )
    for id_, stamp in fetch_rows(connection, source, [sql.members(list(first))]):
        yield first[id_], stamp


def _find_parked_keys(connection: BaseDatabaseWrapper, queue: Queue, found: _ByContext) -> None:
    sql = dialect(connection)
    consumer = "consumer" if queue == Queue.INBOX else "NULL"
    rows = fetch_rows(
        connection,
        f"SELECT context, consumer, {sql.key}, total FROM"
        f" (SELECT context, {consumer} AS consumer, {sql.key},"
        " COUNT(*) OVER (PARTITION BY context) AS total,"
        " ROW_NUMBER() OVER (PARTITION BY context ORDER BY id) AS place"
        f" FROM {table(MODELS[queue])} WHERE holds{sql.true} AND {DEAD} AND {sql.key} IS NOT NULL) heads"
        f" WHERE place <= {_SHOWN} ORDER BY context, place",
        [],
    )
    for label, name, key, total in rows:
        found[label].parked_keys = total
        found[label].parked.append(ParkedKey(key=key, consumer=name))


def _find_partitions(connection: BaseDatabaseWrapper, queue: Queue, found: _ByContext) -> None:
    # The intake fills the inbox, so its partition is shown there.
    shown = [queue] if queue == Queue.OUTBOX else [queue, Queue.INTAKE]
    clock = database_time(connection)
    rows = Partition.objects.using(connection.alias).filter(queue__in=shown)
    for row in rows.order_by("context", "queue", "number"):
        if row.queue == queue:
            found[row.context].existing.add(row.number)
        until = None if row.retry_at is None else as_datetime(connection, row.retry_at)
        backing_off = until is not None and until > clock
        if row.paused or backing_off:
            state = PartitionState(
                queue=Queue(row.queue),
                number=row.number,
                state="paused" if row.paused else "backing off",
                # A transfer stores why it pauses a partition; the error of an outage that is over is old.
                reason=row.error if backing_off or until is None else "",
                until=until if backing_off else None,
            )
            found[row.context].partitions.append(state)


def _count_quarantine(connection: BaseDatabaseWrapper, found: _ByContext) -> None:
    rows = fetch_rows(
        connection,
        f"SELECT context, reason, COUNT(*) FROM {table(QuarantinedMessage)} WHERE {QUARANTINED}"
        " GROUP BY context, reason ORDER BY context, reason",
        [],
    )
    for label, reason, count in rows:
        found[label].quarantine[QuarantineReason(reason)] = count
