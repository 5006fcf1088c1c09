"""Which movers have something to do: one statement a database, for all its contexts.

Asking each mover instead would cost an idle process a transaction a context and mover, every round.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from django.db import connections

from outbox_inbox.contexts import Context, get_context
from outbox_inbox.models import Queue
from outbox_inbox.queues import statements
from outbox_inbox.queues.partitions import PartitionStatuses, include_stream, partition_count
from outbox_inbox.queues.statements import checkpoints
from outbox_inbox.queues.wakeup import MoverName

MOVER_OF: Mapping[Queue, MoverName] = {
    Queue.OUTBOX: "relay",
    Queue.INTAKE: "receive",
    Queue.INBOX: "dispatch",
}


Due = dict[MoverName, PartitionStatuses | None]
"""The movers of a context that have something to do -> the partitions that were found.

The receiver is always one of them, unless the intake is paused or backing off: only the transport
knows whether there are messages. None: the partitions do not exist, or not as many as the settings
say; the mover creates them, or raises an error. Read models have no partitions.
"""


def labels_by_database(chosen: Iterable[Context]) -> dict[str, list[str]]:
    """Return the labels of contexts by their database."""
    found: dict[str, list[str]] = defaultdict(list)
    for context in chosen:
        found[context.database].append(context.label)
    return dict(found)


def due_movers(alias: str, labels: Sequence[str]) -> dict[str, Due]:
    """Return for each of some contexts on a database which movers have something to do."""
    found: dict[tuple[str, str], list[statements.PartitionStatus]] = defaultdict(list)
    for label, queue, partition in statements.all_partition_statuses(connections[alias], labels):
        found[label, queue].append(partition)
    projecting = [label for label in labels if get_context(label).read_models]
    behind = _labels_behind(alias, projecting) if projecting else frozenset[str]()
    return {
        label: dict(_due_queues(get_context(label), found))
        | ({"project": None} if label in behind else {})
        for label in labels
    }


def _labels_behind(alias: str, labels: Sequence[str]) -> AbstractSet[str]:
    """Return the contexts whose read models are behind their stream."""
    connection = connections[alias]
    if not checkpoints.supports_subscriptions(connection):
        return frozenset()
    found = checkpoints.subscription_statuses(connection, labels)
    known = {(each.context, each.subscription) for each in found}
    blocked = {(each.context, each.subscription) for each in found if not _can_update(each)}
    return {
        label
        for label in labels
        for name in get_context(label).read_models
        if (label, name) not in known or (label, name) not in blocked
    }


def _can_update(subscription: checkpoints.SubscriptionStatus) -> bool:
    return subscription.ready and not (subscription.paused or subscription.resting)


def _due_queues(
    context: Context, found: Mapping[tuple[str, str], PartitionStatuses]
) -> Iterator[tuple[MoverName, PartitionStatuses | None]]:
    for queue in Queue:
        statuses = found.get((context.label, queue.value), ())
        if len(statuses) != partition_count(context, queue):
            yield MOVER_OF[queue], None
            continue
        if queue == Queue.OUTBOX and not any(each.ready for each in statuses):
            statuses = include_stream(context, statuses)
        if any(map(_can_claim, statuses)):
            yield MOVER_OF[queue], statuses


def _can_claim(partition: statements.PartitionStatus) -> bool:
    return partition.ready and not (partition.paused or partition.resting or partition.live)
