"""The partitions of a context that is transferred: paused on both sides, and then as before.

A pause lets the movers finish their transactions and stay away, instead of failing at the guards.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

from outbox_inbox.models import Partition, Queue, QueueLayout
from outbox_inbox.queues.layouts import stored_layout
from outbox_inbox.queues.partitions import operator_lock, partition_count

from .route import Route

QueuePartition = tuple[str, int]
"""A queue and the number of a partition."""


def pause_partitions(route: Route, reason: str) -> list[QueuePartition]:
    """Pause all partitions of the old side, in the caller's transaction.

    It waits for the transactions that movers are in. Return those that an operator had paused.
    """
    rows = Partition.objects.using(route.old).filter(context=route.label)
    have = set(rows.values_list("queue", flat=True))
    # A worker would create the missing ones unpaused when it needs them, and fail at the guards.
    rows.bulk_create(
        (
            Partition(context=route.label, queue=queue, number=number)
            for queue in Queue
            if queue.value not in have
            for number in range(partition_count(stored_layout(route.context), queue))
        ),
        ignore_conflicts=True,
    )
    with ExitStack() as locks:
        for queue in Queue:
            locks.enter_context(operator_lock(route.context, queue))
        before = list(rows.filter(paused=True).values_list("queue", "number"))
        rows.update(paused=True, error=reason)
    return before


def copy_partitions(route: Route) -> None:
    """Give the new side the layout and partitions of the old one, paused, in the caller's transaction."""
    reason = f"being transferred from {route.old}"
    old = Partition.objects.using(route.old).filter(context=route.label)
    new = Partition.objects.using(route.new)
    new.filter(context=route.label).delete()
    new.bulk_create(
        Partition(context=route.label, queue=queue, number=number, paused=True, error=reason)
        for queue, number in old.order_by("queue", "number").values_list("queue", "number")
    )
    layouts = QueueLayout.objects.using(route.new)
    layouts.filter(context=route.label).delete()
    layouts.create(**stored_layout(route.context)._asdict())


def resume_partitions(using: str, label: str, still_paused: Iterable[Sequence[Any]]) -> None:
    """Let movers work again, except on the partitions that an operator had paused before."""
    rows = Partition.objects.using(using).filter(context=label)
    rows.update(paused=False, error="", retry_at=None, outages=0, run=None)
    for queue, number in still_paused:
        rows.filter(queue=queue, number=number).update(paused=True)
