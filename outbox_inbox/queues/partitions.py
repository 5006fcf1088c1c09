"""The partition lock: one worker at a time on a share of a queue, without clocks or leases.

The worker that holds the row lock owns the partition, and a crash releases the lock at once. Since
a worker commits often, it also writes a token (``run``) when it begins and clears it when it ends:

- A worker that takes the lock for its next message and does not find its own token knows that another
  worker has owned the partition since; it drops what it has read ahead.
- A token that is still there when another worker gets the lock, and that has shown no sign of life for
  a moment, says that a run had no clean end. The next run is *careful*: it takes one message at a time,
  with the attempt committed before the message is touched, so that a message which kills its worker
  runs out of attempts (rule O9).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import DatabaseError, connections, models, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.dispatch import Signal

from outbox_inbox.contexts import Context, contexts
from outbox_inbox.models import Delivery, OutboxMessage, Partition, Queue

from . import statements
from .layouts import declared_layout, ensure_layouts, report_difference
from .relay_source import stream_is_waiting
from .servers import refuse_read_only
from .statements.dialects import gave_way
from .statements.lock_waits import limited_lock_wait

ROW_MODELS: dict[Queue, type[models.Model] | None] = {
    Queue.OUTBOX: OutboxMessage,
    Queue.INBOX: Delivery,
    Queue.INTAKE: None,
}
"""Queue -> the model of its rows; what an intake has to do is at the transport."""

queues_created = Signal()
"""Sent with ``using`` when a database had no partitions: it is new, or a test has emptied it."""

_TRIES = 10  # to create the rows of partitions while other processes create them
_WAIT = 0.5  # seconds for the transaction of another process that creates the same

PartitionStatuses = Sequence[statements.PartitionStatus]
"""The partitions of a queue, as they were found by one statement."""


def partition_statuses(context: Context, queue: Queue) -> list[statements.PartitionStatus]:
    """Return the partitions of a queue with whether there is work: one cheap statement.

    They are those that are in force, whatever the settings of this process say.

    Raises:
        ReadOnlyDatabase: the database can be read, but not written.
    """
    connection, model = connections[context.database], ROW_MODELS[queue]
    found = statements.partition_statuses(connection, context.label, queue, model)
    refuse_read_only(context.database, found)
    if not found or found[0].source is None:
        ensure_partitions(context.database)
        found = statements.partition_statuses(connection, context.label, queue, model)
    report_settings(context, queue, found)
    return include_stream(context, found) if queue == Queue.OUTBOX else found


def include_stream(context: Context, found: PartitionStatuses) -> list[statements.PartitionStatus]:
    """Return the partitions of an outbox, ready if the stream has something for the relay."""
    follows = any(each.follows for each in found) and not all(each.ready for each in found)
    if not (follows and stream_is_waiting(context)):
        return list(found)
    return [each._replace(ready=True) for each in found]


def report_settings(context: Context, queue: Queue, found: PartitionStatuses) -> None:
    """Log, once a process, that its settings name other partitions, or another source."""
    wanted = declared_layout(context)
    for each in found[:1]:
        seen = wanted._replace(source=each.source or wanted.source)
        if queue == Queue.OUTBOX:
            seen = seen._replace(outbox=len(found))
        elif queue == Queue.INBOX:
            seen = seen._replace(inbox=len(found))
        report_difference(wanted, seen)


def ensure_partitions(using: str) -> None:
    """Create the partitions and layouts of all contexts on a database; what is there stays as it is."""
    # On MySQL and MariaDB, processes that call it together may deadlock: one of them commits each
    # time, and the others find its rows at their next try.
    if not router.allow_migrate_model(using, Partition):
        return
    connection = connections[using]
    for tries_left in reversed(range(_TRIES)):
        try:
            _create_soon(using)
        except DatabaseError as error:
            if connection.in_atomic_block or not gave_way(connection, error):
                raise
            if not gave_way(connection, error, waited=False):
                return  # a use case is storing the same: they are there when its messages are
            if not tries_left:
                raise
        else:
            return


def _create_soon(using: str) -> None:
    """Create them without waiting for long: a use case that stores its layout may take its time."""
    connection = connections[using]
    if connection.in_atomic_block:
        _create_partitions(using)
        return
    with transaction.atomic(using=using), limited_lock_wait(connection, _WAIT):
        _create_partitions(using)


def _create_partitions(using: str) -> None:
    have = set(Partition.objects.using(using).values_list("context", "queue").distinct())
    if not have:
        queues_created.send(sender=None, using=using)
    layouts = ensure_layouts(using)
    Partition.objects.using(using).bulk_create(
        (
            Partition(context=context.label, queue=queue, number=number)
            for context in contexts()
            if context.database == using
            for queue in Queue
            if (context.label, queue.value) not in have
            for number in range(partition_count(layouts[context.label], queue))
        ),
        ignore_conflicts=True,
    )


def partition_count(layout: statements.Layout, queue: Queue) -> int:
    """Return how many partitions a layout gives to a queue."""
    return {Queue.OUTBOX: layout.outbox, Queue.INBOX: layout.inbox}.get(queue, 1)


def lock_by_key(rows: "models.QuerySet[Any]") -> None:
    """Lock rows of a small table in the open transaction, one after the other by their keys.

    InnoDB locks what it walks through: an entry of an index, then the row. Two sessions that come to the
    same rows by different indexes end in a deadlock, and an operator gets an error page.
    """
    keys = list(rows.order_by("pk").values_list("pk", flat=True))
    found = rows.model._default_manager.using(rows.db).filter(pk__in=keys)
    # Whole rows: for their keys alone the server would read another index.
    list(found.order_by("pk").select_for_update())


@contextmanager
def operator_lock(
    context: Context, queue: Queue, numbers: Iterable[int] | None = None
) -> Iterator[BaseDatabaseWrapper]:
    """Open a transaction in which no worker owns one of the given partitions (default: all).

    It waits for the transaction that a worker is in, and makes every worker drop what it has read
    ahead. States are only changed under this lock, or by the mover that owns the partition:
    otherwise a follower could be set to wait behind a head that was just solved, for ever.
    """
    connection = connections[context.database]
    with transaction.atomic(using=context.database):
        rows = Partition.objects.using(context.database).filter(context=context.label, queue=queue)
        if numbers is not None:
            rows = rows.filter(number__in=list(numbers))
        if connection.features.has_select_for_update:
            lock_by_key(rows)
        rows.update(run=None)  # a worker that comes back finds its token gone, and reads again
        yield connection
