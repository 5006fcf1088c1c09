"""Which movers have something to do: one statement a database, for all its contexts.

Asking each mover instead would cost an idle process a transaction a context and mover, every round.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from django.db import connections

from outbox_inbox.contexts import Context, get_context
from outbox_inbox.models import Queue
from outbox_inbox.operations.selection import MOVER_OF
from outbox_inbox.queues import statements
from outbox_inbox.queues.interests import confirm_interests
from outbox_inbox.queues.partitions import PartitionStatuses, include_stream, report_settings
from outbox_inbox.queues.servers import refuse_read_only
from outbox_inbox.queues.statements import checkpoints
from outbox_inbox.queues.wakeup import MoverName

Due = dict[MoverName, PartitionStatuses | None]
"""The movers of a context that have something to do -> the partitions that were found.

The receiver is always one of them, unless the intake is paused or backing off: only the transport
knows whether there are messages. None: the partitions do not exist, and the mover creates them. Read models
have no partitions.
"""


def labels_by_database(chosen: Iterable[Context]) -> Mapping[str, Sequence[str]]:
    """Return the labels of contexts by their database."""
    found: dict[str, list[str]] = defaultdict(list)
    for context in chosen:
        found[context.database].append(context.label)
    return found


def due_movers(alias: str, labels: Sequence[str]) -> dict[str, Due]:
    """Return for each of some contexts on a database which movers have something to do."""
    # Also while there is nothing to do: other code would take what this process has for gone.
    confirm_interests(alias)
    found: dict[tuple[str, str], list[statements.PartitionStatus]] = defaultdict(list)
    looked = statements.all_partition_statuses(connections[alias], labels)
    refuse_read_only(alias, [partition for _, _, partition in looked])
    for label, queue, partition in looked:
        found[label, queue].append(partition)
    due = {label: dict(_due_queues(get_context(label), found)) for label in labels}
    for label in _labels_behind(alias, [each for each in labels if get_context(each).read_models]):
        due[label]["project"] = None
    return due


def _labels_behind(alias: str, projecting: Sequence[str]) -> Iterator[str]:
    """Yield the contexts with a read model that is new, or that is behind and can be updated."""
    connection = connections[alias]
    if projecting and checkpoints.supports_subscriptions(connection):
        found = checkpoints.subscription_statuses(connection, projecting)
        idle = {
            (each.context, each.subscription)
            for each in found
            if not each.ready or each.paused or each.resting
        }
        for label in projecting:
            if any((label, name) not in idle for name in get_context(label).read_models):
                yield label


def _due_queues(
    context: Context, found: Mapping[tuple[str, str], PartitionStatuses]
) -> Iterator[tuple[MoverName, PartitionStatuses | None]]:
    for queue in Queue:
        statuses = found.get((context.label, queue.value), ())
        if not statuses or statuses[0].source is None:
            yield MOVER_OF[queue], None
            continue
        report_settings(context, queue, statuses)
        if queue == Queue.OUTBOX and not any(each.ready for each in statuses):
            statuses = include_stream(context, statuses)
        if any(p.ready and not (p.paused or p.resting or p.live) for p in statuses):
            yield MOVER_OF[queue], statuses
