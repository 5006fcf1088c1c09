"""The operator's switch on partitions."""

from collections.abc import Iterable

from outbox_inbox.contexts import Context
from outbox_inbox.models import Partition, Queue
from outbox_inbox.queues.partitions import ensure_partitions, operator_lock
from outbox_inbox.queues.statements.moved import refusals_explained


def pause(context: Context, queue: Queue, numbers: Iterable[int] | None = None) -> int:
    """Let nobody work on partitions of a queue until `resume`.

    It waits for the transaction that a worker is in; when it returns, none is at work there.
    Messages go on being recorded and received, and stay where they are.

    Arguments:
        numbers: which partitions; None (default) means all.

    Returns:
        How many were not paused before.
    """
    return _switch(context, queue, numbers, paused=True)


def resume(context: Context, queue: Queue, numbers: Iterable[int] | None = None) -> int:
    """Let workers go on with partitions, at once: also where an outage has them rest.

    Returns:
        How many were paused before.

    Raises:
        ContextMoved: the context is being handed over to another database, and is closed here.
    """
    return _switch(context, queue, numbers, paused=False)


def _switch(context: Context, queue: Queue, numbers: Iterable[int] | None, *, paused: bool) -> int:
    ensure_partitions(context.database)
    wanted = None if numbers is None else list(numbers)
    with refusals_explained(), operator_lock(context, queue, wanted):
        rows = Partition.objects.using(context.database).filter(context=context.label, queue=queue)
        if wanted is not None:
            rows = rows.filter(number__in=wanted)
        count = rows.exclude(paused=paused).update(paused=paused)
        if not paused:
            rows.update(retry_at=None, outages=0, error="")
    return count
