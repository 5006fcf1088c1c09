"""The look around: which partitions have something to do."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.models import Delivery, OutboxMessage, table

from .common import PARTITION, fetch
from .dialects import Dialect, dialect
from .locking import SILENCE
from .states import idle_state


class PartitionStatus(NamedTuple):
    """A partition and whether there is something to do in it now."""

    id: int
    number: int
    paused: bool
    run: Any
    outages: int
    resting: bool
    live: bool
    ready: bool
    due: bool
    """Some of the work has waited for its time."""


def partition_statuses(
    connection: BaseDatabaseWrapper, context: str, queue: str, model: type[models.Model] | None
) -> list[PartitionStatus]:
    """Say for each partition of a queue whether there is work, without reading the queue.

    Partitions that were left without a clean end, or that somebody is working on, come last.
    ``model`` is what the queue is made of; None: only the transport knows, so there may be work.
    """
    say = dialect(connection)
    waits, due = ("TRUE", "FALSE") if model is None else (_waits(model), _is_due(say, model))
    found = fetch(
        connection,
        f"SELECT {_partition(say)}, {waits}, {due}"
        f" FROM {PARTITION} p WHERE p.context = %s AND p.queue = %s"
        " ORDER BY p.run IS NOT NULL, p.number",
        [-SILENCE, context, queue],
    )
    return [_work(row) for row in found]


def all_partition_statuses(
    connection: BaseDatabaseWrapper, contexts: Sequence[str]
) -> list[tuple[str, str, PartitionStatus]]:
    """Return context, queue and partition, as `look` does, for all queues of some contexts.

    The work of an intake is at the transport, so there may always be some.
    """
    say = dialect(connection)
    both = [
        f"CASE p.queue WHEN 'outbox' THEN {exists(OutboxMessage)}"
        f" WHEN 'inbox' THEN {exists(Delivery)} ELSE {otherwise} END"
        for exists, otherwise in ((_waits, "TRUE"), (partial(_is_due, say), "FALSE"))
    ]
    found = fetch(
        connection,
        f"SELECT p.context, p.queue, {_partition(say)}, {', '.join(both)}"
        f" FROM {PARTITION} p WHERE p.context {say.among}"
        " ORDER BY p.run IS NOT NULL, p.number",
        [-SILENCE, say.members(contexts)],
    )
    return [(context, queue, _work(row)) for context, queue, *row in found]


def _partition(say: Dialect) -> str:
    return (
        "p.id, p.number, p.paused, p.run, p.outages,"
        f" p.retry_at IS NOT NULL AND p.retry_at > {say.now},"
        f" p.run IS NOT NULL AND p.last_run_at > {say.later}"
    )


def _work(row: Sequence[Any]) -> PartitionStatus:
    id_, number, paused, run, outages, resting, live, waits, due = row
    ready = bool(waits or due)
    return PartitionStatus(
        id_, number, bool(paused), run, outages, bool(resting), bool(live), ready, bool(due)
    )


def _waits(model: type[models.Model]) -> str:
    return f"EXISTS ({_idle_rows(model)} IS NULL)"


def _is_due(say: Dialect, model: type[models.Model]) -> str:
    return f"EXISTS ({_idle_rows(model)} <= {say.now})"


def _idle_rows(model: type[models.Model]) -> str:
    return (
        f"SELECT 1 FROM {table(model)} m WHERE m.context = p.context AND m.partition = p.number"
        f" AND m.state = '{idle_state(model)}' AND m.due_at"
    )
