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
from .dialects.base import SILENCE
from .layouts import partition_columns
from .states import idle_state

_SWEEP_ORDER = "p.run IS NOT NULL, p.last_run_at IS NOT NULL, p.last_run_at, p.number"


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
    source: Source | None
    """What is in force in its context; None: no layout of the context is stored."""
    follows: bool
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
    waits, due = ("TRUE", "FALSE") if model is None else (_waits(sql, model), _is_due(sql, model))
    found = fetch_rows(
        connection,
        f"SELECT {_partition_columns(sql)}, {waits}, {due}"
        f" FROM {PARTITION} p WHERE p.context = %s AND p.queue = %s"
        f" ORDER BY {_SWEEP_ORDER}",
        [-SILENCE, context, queue],
    )
    return [_status(row) for row in found]


def all_partition_statuses(
    connection: BaseDatabaseWrapper, contexts: Sequence[str]
) -> list[tuple[str, str, PartitionStatus]]:
    """Return context, queue and status of every partition of some contexts, in one statement."""
    sql = dialect(connection)
    # Only the transport knows the work of an intake, so there may always be some.
    both = [
        f"CASE p.queue WHEN 'outbox' THEN {has_row(sql, OutboxMessage)}"
        f" WHEN 'inbox' THEN {has_row(sql, Delivery)} ELSE {otherwise} END"
        for has_row, otherwise in ((_waits, "TRUE"), (_is_due, "FALSE"))
    ]
    found = fetch_rows(
        connection,
        f"SELECT p.context, p.queue, {_partition_columns(sql)}, {', '.join(both)}"
        f" FROM {PARTITION} p WHERE p.context {sql.among}"
        f" ORDER BY {_SWEEP_ORDER}",
        [-SILENCE, sql.members(contexts)],
    )
    return [(context, queue, _status(row)) for context, queue, *row in found]


def _partition_columns(sql: Dialect) -> str:
    return (
        "p.id, p.number, p.paused, p.run, p.outages,"
        f" p.retry_at IS NOT NULL AND p.retry_at > {sql.now},"
        f" p.run IS NOT NULL AND p.last_run_at > {sql.later}, {partition_columns(sql)}"
    )


def _status(row: Sequence[Any]) -> PartitionStatus:
    id_, number, paused, run, outages, resting, live, source, left, waits, due = row
    flags = map(bool, (paused, resting, live, waits or due, due))
    paused, resting, live, ready, due = flags
    follows = bool(left) or source == "stream"
    return PartitionStatus(
        id_, number, paused, run, outages, resting, live, ready, due, source, follows
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
