"""Go over the partitions of a queue until nothing is left to be done now."""

from collections.abc import Callable

from outbox_inbox.contexts import Context
from outbox_inbox.models import Queue

from . import statements
from .outcome import Outcome, Tally
from .partitions import _ROWS, PartitionStatuses, partition_statuses
from .run import Run, partition_run


def sweep_partitions(
    context: Context,
    queue: Queue,
    work: Callable[[Run, Tally], None],
    tally: Tally,
    seen: PartitionStatuses | None = None,
) -> Outcome:
    """Work through the partitions of a queue until nothing is left to be done now.

    Arguments:
        work: does what there is to do in one partition, and counts it.
        tally: ends the sweep when it is finished.
        seen: go over these partitions, once: somebody has just looked, and will look again.
    """
    if seen is not None:
        _go_over(context, seen, work, tally)
        return tally.outcome
    moved = True
    while moved and not tally.finished():
        before = tally.outcome
        _go_over(context, partition_statuses(context, queue), work, tally)
        # An intake has no rows to be looked at; its mover has asked the transport until it was empty.
        moved = tally.outcome.steps > before.steps and _ROWS[queue] is not None
    return tally.outcome


def _go_over(
    context: Context, seen: PartitionStatuses, work: Callable[[Run, Tally], None], tally: Tally
) -> None:
    for partition in seen:
        if tally.finished():
            return
        if partition.ready and not (partition.paused or partition.resting):
            _visit(context, partition, work, tally)


def _visit(
    context: Context,
    partition: statements.PartitionStatus,
    work: Callable[[Run, Tally], None],
    tally: Tally,
) -> None:
    if partition.live:
        tally.add(Outcome(busy=1))
        return
    with partition_run(context, partition) as run:
        if run is None:
            tally.add(Outcome(busy=1))
        else:
            work(run, tally)
