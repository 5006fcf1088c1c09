"""How a mover goes over the partitions of a queue, until there is nothing it can do now."""

from collections.abc import Callable

from outbox_inbox.contexts import Context
from outbox_inbox.models import Queue

from . import statements
from .outcome import MoverCall, Outcome
from .partitions import ROW_MODELS, PartitionStatuses, partition_statuses
from .run import Lost, Run, partition_run

PartitionMover = Callable[[Run, MoverCall], None]
"""Does what there is to do in one partition, and counts it. It may raise `Lost`."""


def sweep_partitions(
    context: Context,
    queue: Queue,
    mover: PartitionMover,
    call: MoverCall,
    seen: PartitionStatuses | None = None,
) -> Outcome:
    """Call a mover for the partitions of a queue until there is nothing it can do now.

    Arguments:
        call: ends the sweep when it is finished.
        seen: sweep these partitions, once: the caller has just looked, and will look again.
    """
    if seen is not None:
        _sweep_once(context, seen, mover, call, fair=True)
        return call.outcome
    # An intake has one partition and no rows to look at: its mover asks until it is empty.
    fair = ROW_MODELS[queue] is not None
    moved = True
    while moved and not call.ended():
        before = call.outcome
        _sweep_once(context, partition_statuses(context, queue), mover, call, fair=fair)
        moved = call.outcome.steps > before.steps and fair
    return call.outcome


def _sweep_once(
    context: Context,
    seen: PartitionStatuses,
    mover: PartitionMover,
    call: MoverCall,
    *,
    fair: bool,
) -> None:
    for partition in seen:
        if call.ended():
            return
        if partition.ready and not (partition.paused or partition.resting):
            if fair:
                call.begin_turn()
            _move_partition(context, partition, mover, call)


def _move_partition(
    context: Context,
    partition: statements.PartitionStatus,
    mover: PartitionMover,
    call: MoverCall,
) -> None:
    # A run that shows signs of life is between two transactions: its token must stay, or that run
    # would drop what it has read ahead and begin again, at every look of another worker.
    if partition.live:
        call.add(Outcome(busy=1))
        return
    with partition_run(context, partition) as run:
        if run is None:
            call.add(Outcome(busy=1))
            return
        try:
            mover(run, call)
        except Lost:
            # Another worker has moved on in this partition. To go on with what was read ahead would
            # repeat messages, or turn their order around.
            call.add(Outcome(busy=1))
