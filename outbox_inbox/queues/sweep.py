"""How a mover goes over the partitions of a queue, until there is nothing it can do now."""

from collections.abc import Callable

from django.db import Error as DatabaseError

from outbox_inbox.contexts import Context
from outbox_inbox.models import Queue

from . import statements
from .outages import back_off_database
from .outcome import MoverCall, Outcome
from .partitions import ROW_MODELS, PartitionStatuses, partition_statuses
from .run import Lost, Run, partition_run

PartitionMover = Callable[[Run, MoverCall], None]
"""Does what there is to do in one partition, and counts it.

It may raise `Lost`, and a `django.db.Error` of our own statements, after which the partition backs off.
"""

_SUSPECT_BATCHES = {Queue.INBOX: 2}
"""Queue -> what a worker that crashed may have had in hand: the oldest batch, or a fair one of the inbox."""


def sweep_partitions(
    context: Context,
    queue: Queue,
    mover: PartitionMover,
    call: MoverCall,
    seen: PartitionStatuses | None = None,
    *,
    once: bool = False,
) -> Outcome:
    """Call a mover for the partitions of a queue until there is nothing it can do now.

    ``once``: give each partition one turn: the caller will call again. ``seen``: do so with these, at
    which the caller has just looked.
    """
    once = once or seen is not None
    # An intake has one partition and no rows to look at: its mover asks until it is empty.
    again = not once and ROW_MODELS[queue] is not None
    while not call.ended():
        before = call.outcome.steps
        for partition in partition_statuses(context, queue) if seen is None else seen:
            if call.ended():
                return call.outcome
            if partition.ready and not (partition.paused or partition.resting):
                if again or once:
                    call.begin_turn()
                _move_partition(context, queue, partition, mover, call)
        if not again or call.outcome.steps == before:
            break
    return call.outcome


def _move_partition(
    context: Context,
    queue: Queue,
    partition: statements.PartitionStatus,
    mover: PartitionMover,
    call: MoverCall,
) -> None:
    # A run that shows signs of life is between two transactions: its token must stay, or that run
    # would drop what it has read ahead and begin again, at every look of another worker.
    if partition.live:
        call.add(Outcome(busy=1))
        return
    with partition_run(context, partition, _SUSPECT_BATCHES.get(queue, 1)) as run:
        if run is None:
            call.add(Outcome(busy=1))
            return
        try:
            if run.astray:
                run.bring_back(ROW_MODELS[queue])
            mover(run, call)
            run.cut_off = call.finished()
        except Lost:
            # Another worker has moved on in this partition. To go on with what was read ahead would
            # repeat messages, or turn their order around.
            call.add(Outcome(busy=1))
        except DatabaseError as error:
            # What a message is to blame for never comes here. Counted as its attempt, a database
            # without rights or without space would turn every message into a dead letter.
            back_off_database(run, queue, error)
