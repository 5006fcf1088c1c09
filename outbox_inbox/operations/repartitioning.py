"""Repartition: put what the settings say in force, for all processes at one moment.

That is the number of partitions of each queue, and whether the outbox or the stream is the source of
the relay. All rows of a key move together, since its partition follows from the key alone: so the
order within a key is kept, and every follower still waits behind its head.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf import Source
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import (
    Delivery,
    InboxMessage,
    Partition,
    Queue,
    QueueLayout,
    StoredEvent,
    table,
)
from outbox_inbox.outbox.stream_relay import move_stream_to_outbox
from outbox_inbox.queues.layouts import declared_layout, stored_layout
from outbox_inbox.queues.partitions import ensure_partitions, operator_lock, partition_count
from outbox_inbox.queues.statements import Layout, checkpoints, fetch_layout
from outbox_inbox.queues.statements.dialects import dialect
from outbox_inbox.queues.statements.layouts import RELAY
from outbox_inbox.queues.statements.moved import refusals_explained
from outbox_inbox.streams.subscriptions import behind

from .selection import MODELS, has_state, state_sql
from .table_locks import lock_tables, retry_until_locked

_COLUMNS = {Queue.OUTBOX: ("source", "outbox"), Queue.INBOX: ("inbox",)}
"""Queue -> what of the layout is changed together with it."""


@dataclass(frozen=True, slots=True)
class Repartitioned:
    """What happened to one queue of a context.

    Fields:
        before, after: how many partitions it had and has.
        moved: unfinished messages or deliveries whose partition changed, and events of the stream
            that are to be sent from the outbox now.
        source: of an outbox, the source of the relay that was put in force; None: it is as before.
    """

    context: str
    queue: Queue
    before: int
    after: int
    moved: int
    source: Source | None = None


def repartition(
    chosen: Iterable[Context] | None = None, *, dry_run: bool = False
) -> list[Repartitioned]:
    """Put the numbers of partitions and the source that the settings name in force.

    Processes with other settings may run meanwhile and afterwards: all of them act by what is in
    force. So it does not matter when it is called in a deployment, or that it is called again with
    the old settings when that is taken back. Processes of a version that acted by their settings must
    have ended before. What they have put elsewhere is moved by a second call.

    One transaction a context and queue, under the locks of all its partitions: workers wait
    meanwhile. Where something changes, writers wait as well, and transactions that have written are
    waited for: they would commit rows to a place that is not read any more.

    Arguments:
        chosen: which contexts; None (default) means all.
        dry_run: change nothing, and count.

    Raises:
        OutboxInboxError: some partitions of a queue are paused and others are not; or a
            transaction that has written to a queue stays open for a minute.
        SettingsError: the stream is to be the source on a database that cannot serve it.
        ForeignCheckpoint: the stream was the source, and its database comes from a dump.
    """
    wanted = contexts() if chosen is None else tuple(chosen)
    for using in sorted({context.database for context in wanted}):
        ensure_partitions(using)
    return [
        _repartition_queue(context, queue, dry_run=dry_run)
        for context in wanted
        for queue in MODELS
    ]


def _repartition_queue(context: Context, queue: Queue, *, dry_run: bool) -> Repartitioned:
    def change(connection: BaseDatabaseWrapper) -> Repartitioned:
        with operator_lock(context, queue):
            done = _put_in_force(connection, context, queue, dry_run=dry_run)
            if dry_run:
                transaction.set_rollback(True, using=context.database)
        return done

    with refusals_explained():
        return retry_until_locked(context.database, change)


def _put_in_force(
    connection: BaseDatabaseWrapper, context: Context, queue: Queue, *, dry_run: bool
) -> Repartitioned:
    declared, held = declared_layout(context), stored_layout(context)
    wanted = held._replace(**{column: getattr(declared, column) for column in _COLUMNS[queue]})
    if wanted.source != held.source and wanted.source == "stream":
        checkpoints.require_subscriptions(connection)
    if wanted != held and not dry_run:
        _shut_out_writers(connection, queue, wanted, held)
    after = partition_count(wanted, queue)
    before = _change_partitions(context, queue, after)
    if wanted != held:
        rows = QueueLayout.objects.using(context.database).filter(context=context.label)
        rows.update(**wanted._asdict())
    moved = _move_stream(connection, context, wanted, held, dry_run=dry_run)
    moved += _reassign_rows(connection, context, queue, after)
    source = wanted.source if wanted.source != held.source else None
    return Repartitioned(context.label, queue, before, after, moved, source)


def _shut_out_writers(
    connection: BaseDatabaseWrapper, queue: Queue, wanted: Layout, held: Layout
) -> None:
    """Wait for all transactions that have placed a row by what is in force, and let no other begin."""
    # A row committed after the change would stay where no worker reads it, or be overtaken there.
    # First the stream: record() writes to it before it writes to the outbox.
    streams = [StoredEvent] if wanted.source != held.source else []
    lock_tables(connection, [*streams, MODELS[queue]])
    fetch_layout(connection, held.context, lock=True)


def _move_stream(
    connection: BaseDatabaseWrapper,
    context: Context,
    wanted: Layout,
    held: Layout,
    *,
    dry_run: bool,
) -> int:
    """Put what the stream has still to send into the outbox, if that is the source from now on."""
    if (wanted.source, held.source) != ("outbox", "stream"):
        return 0
    if dry_run:
        return behind(context, RELAY, unsent=True).events
    return move_stream_to_outbox(connection, context)


def _change_partitions(context: Context, queue: Queue, after: int) -> int:
    rows = Partition.objects.using(context.database).filter(context=context.label, queue=queue)
    paused = dict(rows.values_list("number", "paused"))
    if set(paused) == set(range(after)):
        return after
    if len(set(paused.values())) > 1:
        some = ", ".join(str(number) for number in sorted(paused) if paused[number])
        raise OutboxInboxError(
            f"of the {queue.value} of {context.label!r} only partitions {some} are paused. Their "
            "keys would go to other partitions: resume them, or pause all partitions of the queue"
        )
    rows.filter(number__gte=after).delete()
    rows.bulk_create(
        Partition(context=context.label, queue=queue, number=number, paused=any(paused.values()))
        for number in range(after)
        if number not in paused
    )
    return len(paused)


def _reassign_rows(
    connection: BaseDatabaseWrapper, context: Context, queue: Queue, after: int
) -> int:
    name, unfinished = table(MODELS[queue]), state_sql(queue, "unfinished")
    column = dialect(connection).partition

    def reassign(target: str, which: str, *parameters: str) -> int:
        return dialect(connection).update_rows(
            connection,
            name,
            f"{column} = {target}",
            f"{which} AND ({unfinished}) AND {column} <> {target}",
            parameters,
        )

    if queue == Queue.OUTBOX:
        return reassign(f"key_hash %% {after:d}", "context = %s", context.label)
    # From the rows: a consumer that does not exist any more may still have deliveries.
    deliveries = Delivery.objects.using(context.database)
    rows = deliveries.filter(has_state(queue, "unfinished"), context=context.label)
    count = 0
    for consumer in list(rows.order_by().values_list("consumer", flat=True).distinct()):
        hashed = crc32(consumer.encode())
        # The same hash as in the INSERT: XOR, as (a | b) - (a & b), which every database has.
        target = (
            f"(SELECT ((m.key_hash | {hashed:d}) - (m.key_hash & {hashed:d})) %% {after:d}"
            f" FROM {table(InboxMessage)} m WHERE m.id = {name}.message_id)"
        )
        count += reassign(target, "context = %s AND consumer = %s", context.label, consumer)
    return count
