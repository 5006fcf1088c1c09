"""Counts what is in the queues, each figure up to a limit: a look costs the same in every backlog.

A count that reads everything is slowest when the backlog is largest, which is when people look. The
statements are in ``queues/statements/depths.py``.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf import settings
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.models import Partition, QuarantineReason, Queue, table
from outbox_inbox.outbox.stream_relay import unsent
from outbox_inbox.queues.servers import is_read_only
from outbox_inbox.queues.statements import depths
from outbox_inbox.queues.statements.common import fetch_rows
from outbox_inbox.queues.statements.dialects import as_datetime, database_time, dialect
from outbox_inbox.queues.statements.times import is_resting

from .selection import DUE, IDLE, MODELS, TIMED
from .stats import MOST_COUNTED, ParkedKey, PartitionState, QueueStats

_STATES = {
    Queue.OUTBOX: ("pending", "backing_off", "waiting", "dead"),
    Queue.INBOX: ("ready", "backing_off", "waiting", "dead"),
}
_SCHEDULED = "scheduled"  # due in the future, so it does not count as unfinished
_NAMED = 5  # parked keys of a queue, unless a caller wants more


def queue_stats(
    chosen: Iterable[Context] | None = None, *, most: int = MOST_COUNTED, named: int = _NAMED
) -> list[QueueStats]:
    """Return the state of both queues of each context.

    A few statements a database and queue, whatever the number of contexts; it takes no locks.

    Arguments:
        chosen: which contexts; None (default) means all.
        most: count up to so many of each sort; default 10,000. See `QueueStats.minimums`.
        named: name up to so many parked keys of each queue, the oldest first; default 5.
    """
    wanted = contexts() if chosen is None else tuple(chosen)
    found: dict[tuple[str, Queue], _Counts] = {}
    read_only: dict[str, bool] = {}
    for using in sorted({context.database for context in wanted}):
        read_only[using] = is_read_only(using)
        labels = [context.label for context in wanted if context.database == using]
        for queue in MODELS:
            counted = _count_queue(connections[using], queue, labels, (most, named))
            found |= {(label, queue): counts for label, counts in counted.items()}
    return [
        replace(
            _stats(context, queue, found[context.label, queue], most),
            read_only=read_only[context.database],
        )
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


_ByContext = Mapping[str, _Counts]


def _stats(context: Context, queue: Queue, found: _Counts, most: int) -> QueueStats:
    if queue == Queue.OUTBOX:
        _add_stream(context, found, most)
    figures = Counter(found.depth)
    figures["parked_keys"] = found.parked_keys
    figures["quarantined"] = sum(found.quarantine.values())
    # Workers create the partitions: before the first one has run, none is missing.
    stray = found.numbers - found.existing if found.existing else set[int]()
    reason = "messages name it, and it does not exist; run manage.py repartition"
    return QueueStats(
        context=context.label,
        queue=queue,
        database=context.database,
        depth={state: min(found.depth[state], most) for state in _STATES[queue]},
        scheduled=min(found.depth[_SCHEDULED], most),
        oldest=found.oldest,
        parked_keys=min(found.parked_keys, most),
        parked=found.parked,
        partitions=[
            *found.partitions,
            *(
                PartitionState(queue=queue, number=number, state="missing", reason=reason)
                for number in sorted(stray)
            ),
        ],
        quarantine={each: min(count, most) for each, count in found.quarantine.items()},
        minimums=frozenset(name for name, count in figures.items() if count > most),
    )


def _add_stream(context: Context, found: _Counts, most: int) -> None:
    """Add what the relay has still to send from the stream, where that is the source."""
    lag = unsent(context, most=most + 1)
    if lag.events and lag.since is not None:
        found.depth["pending"] += lag.events
        now = database_time(connections[context.database])
        found.note_age((now - lag.since).total_seconds())


def _count_queue(
    connection: BaseDatabaseWrapper, queue: Queue, labels: Sequence[str], limits: tuple[int, int]
) -> _ByContext:
    most, named = limits
    found, clock = {label: _Counts() for label in labels}, database_time(connection)
    _find_partitions(connection, queue, found, clock)
    _count_states(connection, queue, found, most, clock)
    _find_parked_keys(connection, queue, found, most, named)
    if queue == Queue.INBOX:
        for label, reason, count in depths.count_quarantined(connection, labels, most):
            found[label].quarantine[QuarantineReason(reason)] = count
    return found


def _count_states(
    connection: BaseDatabaseWrapper, queue: Queue, found: _ByContext, most: int, clock: datetime
) -> None:
    model = MODELS[queue]
    last = {label: max(counts.existing, default=-1) for label, counts in found.items()}
    shares = depths.find_shares(connection, model, queue, last)
    first: dict[int, str] = {}
    for share in shares:
        found[share.context].numbers.add(share.number)
        if share.first is not None:
            first[share.first] = share.context
    times = (clock, clock + settings().backoff.maximum)
    for row in depths.count_rows(connection, model, list(found), shares, most, times):
        found[row.context].depth[row.state] += row.total
        if row.since is None:
            first[row.lowest] = row.context
        elif row.state != _SCHEDULED:
            found[row.context].note_age(
                (clock - as_datetime(connection, row.since)).total_seconds()
            )
    # The age counts from then on when a row was created, but from its time for a scheduled one.
    for id_, stamp in depths.creation_times(connection, model, list(first)) if first else ():
        found[first[id_]].note_age((clock - as_datetime(connection, stamp)).total_seconds())


def _find_parked_keys(
    connection: BaseDatabaseWrapper, queue: Queue, found: _ByContext, most: int, named: int
) -> None:
    for label, counts in found.items():
        if counts.depth["dead"]:
            counts.parked_keys, heads = depths.parked_keys(
                connection, MODELS[queue], label, most, named
            )
            counts.parked = [ParkedKey(key=key, consumer=consumer) for key, consumer in heads]


def _find_partitions(
    connection: BaseDatabaseWrapper, queue: Queue, found: _ByContext, clock: datetime
) -> None:
    # The intake fills the inbox, so its partition is shown there.
    shown = [queue] if queue == Queue.OUTBOX else [queue, Queue.INTAKE]
    rows = Partition.objects.using(connection.alias).filter(queue__in=shown, context__in=found)
    for row in rows.order_by("context", "queue", "number"):
        if row.queue == queue:
            found[row.context].existing.add(row.number)
        until = None if row.retry_at is None else as_datetime(connection, row.retry_at)
        left = None if until is None else (until - clock).total_seconds()
        resting = is_resting(left, row.outages)
        # Also between the end of the pause and the next success: the outage is not over yet.
        backing_off = resting or row.outages > 0
        if row.paused or backing_off:
            state = PartitionState(
                queue=Queue(row.queue),
                number=row.number,
                state="paused" if row.paused else "backing off",
                # A transfer stores why it pauses a partition; the error of an outage that is over is old.
                reason=row.error if backing_off or until is None else "",
                until=until if resting else None,
                outages=row.outages,
            )
            found[row.context].partitions.append(state)
