"""The partitions of a context while it is handed over: paused on both sides, and then as before."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

from outbox_inbox.models import Partition, Queue
from outbox_inbox.queues.partitions import operator_lock, partition_count

from .route import Route

Named = tuple[str, int]
"""A queue and the number of a partition."""


def pause_all(way: Route, why: str) -> list[Named]:
    """Pause every partition on the old side, in the caller's transaction; return who was before.

    It waits for the transactions that movers are in.
    """
    rows = Partition.objects.using(way.old).filter(context=way.label)
    _make(way)
    with ExitStack() as locks:
        for queue in Queue:
            locks.enter_context(operator_lock(way.context, queue))
        before = list(rows.filter(paused=True).values_list("queue", "number"))
        rows.update(paused=True, error=why)
    return before


def _make(way: Route) -> None:
    # Those that no worker has needed so far: it would make them when it comes, and be refused.
    rows = Partition.objects.using(way.old)
    have = set(rows.filter(context=way.label).values_list("queue", flat=True))
    rows.bulk_create(
        (
            Partition(context=way.label, queue=queue, number=number)
            for queue in Queue
            if queue.value not in have
            for number in range(partition_count(way.context, queue))
        ),
        ignore_conflicts=True,
    )


def repeat(way: Route, why: str) -> None:
    """Give the new side the partitions of the old one, paused, in the caller's transaction."""
    old = Partition.objects.using(way.old).filter(context=way.label)
    new = Partition.objects.using(way.new)
    new.filter(context=way.label).delete()
    new.bulk_create(
        Partition(context=way.label, queue=queue, number=number, paused=True, error=why)
        for queue, number in old.order_by("queue", "number").values_list("queue", "number")
    )


def resume(using: str, label: str, paused: Iterable[Sequence[Any]]) -> None:
    """Let movers work again, but where an operator had paused a partition before."""
    rows = Partition.objects.using(using).filter(context=label)
    rows.update(paused=False, error="", retry_at=None, outages=0, run=None)
    for queue, number in paused:
        rows.filter(queue=queue, number=number).update(paused=True)
