"""Which partitions have something to do: one index probe each, and never a count.

A poll that counted its queue would be slowest when the backlog is largest.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf import Source
from outbox_inbox.models import Delivery, OutboxMessage, table

from .common import PARTITION, fetch_rows
from .dialects import Dialect, dialect
from .layouts import partition_columns
from .states import idle_state
from .times import is_resting, longest_pause

_STRAYS = 10.0
"""Seconds between two runs that look for back-offs among messages that are scheduled for far ahead."""


class PartitionStatus(NamedTuple):
    """A row of the table of partitions, and whether there is something to do in it now."""

    id: int
    number: int
    paused: bool
    run: Any
    outages: int
    resting: bool
    """Its transport was unavailable, and the next try is not due."""
    live: bool
    """A run is on it, or may be between two transactions."""
    ready: bool
    due: bool
    """Some of the work has waited for its time."""
    astray: bool = False
    """Times in it may lie too far ahead: the clock was put back."""
    read_only: bool = False
    """The server refuses to write; it is the same for all partitions of a look."""
    source: Source | None = None
    """What is in force in its context; None: no layout of the context is stored."""
    follows: bool = False
    """Of an outbox: there may be events for the relay in the stream."""


def partition_statuses(
    connection: BaseDatabaseWrapper, context: str, queue: str, model: type[models.Model] | None
) -> list[PartitionStatus]:
    """Return for each partition of a queue whether there is work, in the order for a sweep.

    Those with a run are last. Before, the one that has waited longest for a run is first: a sweep
    that is cut off, by a limit or by the time of a task, would reach none but the first ones.
    """
    sql = dialect(connection)
    # Without a model only the transport knows, so there may be work.
    work = ("TRUE", "FALSE", "FALSE")
    if model is not None:
        work = (_waits(sql, model), _is_due(sql, model), _is_far(sql, model))
    found = fetch_rows(
        connection,
        f"SELECT {_partition_columns(sql)}, {', '.join(work)}"
        f" FROM {PARTITION} p WHERE p.context = %s AND p.queue = %s"
        f" ORDER BY {_sweep_order(sql)}",
        [context, queue],
    )
    return [_status(row) for row in found]


def all_partition_statuses(
    connection: BaseDatabaseWrapper, contexts: Sequence[str]
) -> list[tuple[str, str, PartitionStatus]]:
    """Return context, queue and status of every partition of some contexts, in one statement."""
    sql = dialect(connection)
    # Only the transport knows the work of an intake, so there may always be some.
    work = [
        f"CASE p.queue WHEN 'outbox' THEN {has_row(sql, OutboxMessage)}"
        f" WHEN 'inbox' THEN {has_row(sql, Delivery)} ELSE {otherwise} END"
        for has_row, otherwise in ((_waits, "TRUE"), (_is_due, "FALSE"), (_is_far, "FALSE"))
    ]
    found = fetch_rows(
        connection,
        f"SELECT p.context, p.queue, {_partition_columns(sql)}, {', '.join(work)}"
        f" FROM {PARTITION} p WHERE p.context {sql.among}"
        f" ORDER BY {_sweep_order(sql)}",
        [sql.members(contexts)],
    )
    return [(context, queue, _status(row)) for context, queue, *row in found]


def _partition_columns(sql: Dialect) -> str:
    return (
        f"p.id, p.number, p.paused, p.run, p.outages, {sql.seconds_until('p.retry_at')},"
        f" p.run IS NOT NULL AND {sql.shows_life('p.last_run_at')}, {sql.was_put_back('p.last_run_at')}, {sql.read_only},"
        f" {partition_columns(sql)}"
    )


def _sweep_order(sql: Dialect) -> str:
    # A time of the future is as good as none. In order of the plain times, partitions that ran before
    # the clock was put back would come after those that ran since, at each sweep that is cut off.
    known = f"p.last_run_at IS NOT NULL AND NOT {sql.was_put_back('p.last_run_at')}"
    return f"p.run IS NOT NULL, {known}, p.last_run_at, p.number"


def _status(row: Sequence[Any]) -> PartitionStatus:
    id_, number, paused, run, outages, left, live, put_back, read_only, *more = row
    source, has_read, waits, due, far = more
    astray = put_back or far
    resting, ready = is_resting(left, outages), waits or due or astray
    follows = bool(has_read) or source == "stream"
    return PartitionStatus(
        id=id_,
        number=number,
        paused=bool(paused),
        run=run,
        outages=outages,
        resting=bool(resting),
        live=bool(live),
        ready=bool(ready),
        due=bool(due),
        astray=bool(astray),
        read_only=bool(read_only),
        source=source,
        follows=follows,
    )


def _waits(sql: Dialect, model: type[models.Model]) -> str:
    # Not "IS NULL OR": each half is the condition of one partial index.
    condition = f"m.state = '{idle_state(model)}' AND m.due_at IS NULL"
    first = sql.first_row(table(model), "id", condition, "p.context", "p.number")
    return f"{first} IS NOT NULL"


def _is_due(sql: Dialect, model: type[models.Model]) -> str:
    # The clock is compared with the first time of all. Within the probe it would be compared with one
    # after the other, until one has come: with all of them, where a million rows are for tomorrow.
    first = sql.first_due(table(model), idle_state(model), "p.context", "p.number")
    return f"COALESCE({first} <= {sql.now}, FALSE)"


def _is_far(sql: Dialect, model: type[models.Model]) -> str:
    # The time that is furthest ahead is found by one probe. A delivery is never scheduled. In an outbox
    # it may be a message for next year, behind which a back-off can hide: a run looks now and then.
    last = sql.last_due(table(model), idle_state(model), "p.context", "p.number")
    far = f"COALESCE({last} > {sql.shifted(longest_pause())}, FALSE)"
    if model is Delivery:
        return far
    return f"{far} AND (p.last_run_at IS NULL OR p.last_run_at <= {sql.shifted(-_STRAYS)})"
