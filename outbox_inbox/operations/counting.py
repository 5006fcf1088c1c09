"""How full the queues are, read from the partial indexes: finished rows are never looked at."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
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
from outbox_inbox.queues.statements.dialects import as_datetime, dialect

from .selection import ASIDE, DEAD, DUE, IDLE, MODELS, TIMED, WAITING
from .stats import ParkedKey, PartitionState, QueueStats

_STATES = {
    Queue.OUTBOX: ("pending", "backing_off", "waiting", "dead"),
    Queue.INBOX: ("ready", "backing_off", "waiting", "dead"),
}
_SCHEDULED = "scheduled"  # what lies in the future: no state of what is unfinished
_NAMED = 5  # parked keys that are named


def queue_stats(chosen: Iterable[Context] | None = None) -> list[QueueStats]:
    """Return the state of both queues of each context.

    A handful of statements a database, whatever the number of contexts; it takes no locks.

    Arguments:
        chosen: which contexts; None (default) means all.
    """
    wanted = contexts() if chosen is None else tuple(chosen)
    found = {
        (using, queue): _read(connections[using], queue)
        for using in sorted({context.database for context in wanted})
        for queue in MODELS
    }
    return [
        _stats(context, queue, found[context.database, queue])
        for context in wanted
        for queue in MODELS
    ]


def due(context: Context, queue: Queue) -> int:
    """Return how many messages a mover would find in a queue now; from an index, one statement."""
    connection = connections[context.database]
    name, idle = table(MODELS[queue]), IDLE[queue]
    found = _run(
        connection,
        f"SELECT count(*) FROM {name} WHERE context = %s AND {DUE.format(idle=idle)}"
        f" UNION ALL SELECT count(*) FROM {name} WHERE context = %s AND {TIMED.format(idle=idle)}"
        f" AND due_at <= {dialect(connection).now}",
        [context.label, context.label],
    )
    in_stream = unsent(context).events if queue == Queue.OUTBOX else 0
    return int(sum(count for (count,) in found)) + in_stream


@dataclass(slots=True)
class _Found:
    """What stands in one queue of one database, by context."""

    depth: dict[str, dict[str, int]] = field(default_factory=dict)
    oldest: dict[str, float] = field(default_factory=dict)
    numbers: dict[str, set[int]] = field(default_factory=dict)
    parked: dict[str, list[ParkedKey]] = field(default_factory=dict)
    parked_keys: dict[str, int] = field(default_factory=dict)
    existing: dict[str, set[int]] = field(default_factory=dict)
    partitions: dict[str, list[PartitionState]] = field(default_factory=dict)
    aside: dict[str, dict[QuarantineReason, int]] = field(default_factory=dict)


def _stats(context: Context, queue: Queue, found: _Found) -> QueueStats:
    depth: Mapping[str, int] = found.depth.get(context.label, {})
    oldest = found.oldest.get(context.label)
    if queue == Queue.OUTBOX:
        depth, oldest = _with_stream(context, depth, oldest)
    # Before the first worker has come there are no partitions at all, and none is missing.
    existing = found.existing.get(context.label)
    stray = set() if existing is None else found.numbers.get(context.label, set()) - existing
    return QueueStats(
        context=context.label,
        queue=queue,
        database=context.database,
        depth={state: depth.get(state, 0) for state in _STATES[queue]},
        scheduled=depth.get(_SCHEDULED, 0),
        oldest=oldest,
        parked_keys=found.parked_keys.get(context.label, 0),
        parked=found.parked.get(context.label, []),
        partitions=[
            *found.partitions.get(context.label, ()),
            *(_missing(queue, number) for number in sorted(stray)),
        ],
        aside=found.aside.get(context.label, {}),
    )


def _with_stream(
    context: Context, depth: Mapping[str, int], oldest: float | None
) -> tuple[Mapping[str, int], float | None]:
    """Count what the relay has still to send from the stream, where that is the source."""
    lag = unsent(context)
    if not lag.events or lag.since is None:
        return depth, oldest
    age = (_clock(connections[context.database]) - lag.since).total_seconds()
    more = {**depth, "pending": depth.get("pending", 0) + lag.events}
    return more, max(age, oldest or 0.0)


def _missing(queue: Queue, number: int) -> PartitionState:
    reason = "messages name it, and it does not exist; run manage.py repartition"
    return PartitionState(queue=queue, number=number, state="missing", reason=reason)


def _read(connection: BaseDatabaseWrapper, queue: Queue) -> _Found:
    found = _Found()
    _read_depth(connection, queue, found)
    _read_parked(connection, queue, found)
    _read_partitions(connection, queue, found)
    if queue == Queue.INBOX:
        _read_aside(connection, found)
    return found


def _read_depth(connection: BaseDatabaseWrapper, queue: Queue, found: _Found) -> None:
    # One aggregate an index. A retry that has come due is still one that failed before; a
    # scheduled message that has come due is a pending one, and its age counts from then.
    say, name = dialect(connection), table(MODELS[queue])
    now = say.now
    timed = (
        f"CASE WHEN attempts > 0 THEN 'backing_off' WHEN due_at > {now} THEN '{_SCHEDULED}'"
        f" ELSE '{IDLE[queue]}' END"
    )
    parts = (
        (f"'{IDLE[queue]}'", DUE, "NULL"),
        (timed, TIMED, "MIN(CASE WHEN attempts = 0 THEN due_at END)"),
        ("'waiting'", WAITING, "NULL"),
        ("'dead'", DEAD, "NULL"),
    )
    statement = " UNION ALL ".join(
        f"SELECT context, {say.partition}, {state} AS state, COUNT(*), MIN(id), {since}"
        f" FROM {name} WHERE {where.format(idle=IDLE[queue])} GROUP BY context, {say.partition}, 3"
        for state, where, since in parts
    )
    rows = _run(connection, statement, [])
    first: dict[int, str] = {}
    clock = _clock(connection)
    for label, number, state, count, lowest, since in rows:
        states = found.depth.setdefault(label, {})
        states[state] = states.get(state, 0) + count
        found.numbers.setdefault(label, set()).add(number)
        if since is None:
            first[lowest] = label
        elif state != _SCHEDULED:
            _older(found, label, (clock - as_datetime(connection, since)).total_seconds())
    for label, stamp in _stamps(connection, queue, first):
        _older(found, label, (clock - as_datetime(connection, stamp)).total_seconds())


def _older(found: _Found, label: str, age: float) -> None:
    found.oldest[label] = max(age, found.oldest.get(label, 0.0))


def _stamps(
    connection: BaseDatabaseWrapper, queue: Queue, first: Mapping[int, str]
) -> Iterator[tuple[str, Any]]:
    """Yield when the rows with these ids came, with their contexts."""
    say = dialect(connection)
    source = (
        f"SELECT id, recorded_at FROM {table(MODELS[queue])} WHERE id {say.among}"
        if queue == Queue.OUTBOX
        else f"SELECT d.id, m.received_at FROM {table(MODELS[queue])} d"
        f" JOIN {table(InboxMessage)} m ON m.id = d.message_id WHERE d.id {say.among}"
    )
    for id_, stamp in _run(connection, source, [say.members(list(first))]):
        yield first[id_], stamp


def _read_parked(connection: BaseDatabaseWrapper, queue: Queue, found: _Found) -> None:
    say = dialect(connection)
    consumer = "consumer" if queue == Queue.INBOX else "NULL"
    rows = _run(
        connection,
        f"SELECT context, consumer, {say.key}, total FROM"
        f" (SELECT context, {consumer} AS consumer, {say.key},"
        " COUNT(*) OVER (PARTITION BY context) AS total,"
        " ROW_NUMBER() OVER (PARTITION BY context ORDER BY id) AS place"
        f" FROM {table(MODELS[queue])} WHERE holds{say.true} AND {DEAD} AND {say.key} IS NOT NULL) heads"
        f" WHERE place <= {_NAMED} ORDER BY context, place",
        [],
    )
    for label, name, key, total in rows:
        found.parked_keys[label] = total
        found.parked.setdefault(label, []).append(ParkedKey(key=key, consumer=name))


def _read_partitions(connection: BaseDatabaseWrapper, queue: Queue, found: _Found) -> None:
    # Receiving fills the inbox, so its partition is shown there.
    shown = [queue] if queue == Queue.OUTBOX else [queue, Queue.INTAKE]
    clock = _clock(connection)
    rows = Partition.objects.using(connection.alias).filter(queue__in=shown)
    for row in rows.order_by("context", "queue", "number"):
        if row.queue == queue:
            found.existing.setdefault(row.context, set()).add(row.number)
        until = None if row.retry_at is None else as_datetime(connection, row.retry_at)
        resting = until is not None and until > clock
        if row.paused or resting:
            state = PartitionState(
                queue=Queue(row.queue),
                number=row.number,
                state="paused" if row.paused else "resting",
                # A hand-over says on a partition why it is paused; an outage has its time.
                reason=row.error if resting or until is None else "",
                until=until if resting else None,
            )
            found.partitions.setdefault(row.context, []).append(state)


def _read_aside(connection: BaseDatabaseWrapper, found: _Found) -> None:
    rows = _run(
        connection,
        f"SELECT context, reason, COUNT(*) FROM {table(QuarantinedMessage)} WHERE {ASIDE}"
        " GROUP BY context, reason ORDER BY context, reason",
        [],
    )
    for label, reason, count in rows:
        found.aside.setdefault(label, {})[QuarantineReason(reason)] = count


def _clock(connection: BaseDatabaseWrapper) -> datetime:
    ((now,),) = _run(connection, f"SELECT {dialect(connection).now}", [])
    return as_datetime(connection, now)


def _run(
    connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any]
) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        # An empty list of parameters, not None: `%%` stands for a per cent sign in either case.
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())
