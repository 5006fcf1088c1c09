"""The look around: is there anything to do? One statement a database, for all its contexts."""

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

WORK_OF: Mapping[Queue, MoverName] = {
    Queue.OUTBOX: "relay",
    Queue.INTAKE: "receive",
    Queue.INBOX: "dispatch",
}


Due = dict[MoverName, PartitionStatuses | None]
"""What there is to do for a context -> the partitions that were seen.

Receiving is always there, unless the intake is paused or rests: only the transport knows. None: the
partitions are not there, or not as many as the settings say; the mover makes them, or tells. Read
models have no partitions.
"""


def by_database(owners: Iterable[Context]) -> dict[str, list[str]]:
    """Return the labels of contexts by their database."""
    found: dict[str, list[str]] = defaultdict(list)
    for context in owners:
        found[context.database].append(context.label)
    return dict(found)


def look_around(alias: str, labels: Sequence[str]) -> dict[str, Due]:
    """Return for each of some contexts on a database what there is to do."""
    found: dict[tuple[str, str], list[statements.PartitionStatus]] = defaultdict(list)
    for label, queue, partition in statements.all_partition_statuses(connections[alias], labels):
        found[label, queue].append(partition)
    kept = [label for label in labels if get_context(label).read_models]
    news = _with_news(alias, kept) if kept else frozenset[str]()
    return {
        label: dict(_due(get_context(label), found)) | ({"project": None} if label in news else {})
        for label in labels
    }


def _with_news(alias: str, labels: Sequence[str]) -> AbstractSet[str]:
    """Return the contexts whose read models are behind their stream."""
    connection = connections[alias]
    if not checkpoints.supports_subscriptions(connection):
        return frozenset()
    found = checkpoints.subscription_statuses(connection, labels)
    known = {(each.context, each.subscription) for each in found}
    at_rest = {(each.context, each.subscription) for each in found if not _may_go_on(each)}
    return {
        label
        for label in labels
        for name in get_context(label).read_models
        if (label, name) not in known or (label, name) not in at_rest
    }


def _may_go_on(subscription: checkpoints.SubscriptionStatus) -> bool:
    return subscription.ready and not (subscription.paused or subscription.resting)


def _due(
    context: Context, found: Mapping[tuple[str, str], PartitionStatuses]
) -> Iterator[tuple[MoverName, PartitionStatuses | None]]:
    for queue in Queue:
        seen = found.get((context.label, queue.value), ())
        if len(seen) != partition_count(context, queue):
            yield WORK_OF[queue], None
            continue
        if queue == Queue.OUTBOX and not any(each.ready for each in seen):
            seen = include_stream(context, seen)
        if any(map(_is_for_us, seen)):
            yield WORK_OF[queue], seen


def _is_for_us(partition: statements.PartitionStatus) -> bool:
    return partition.ready and not (partition.paused or partition.resting or partition.live)
