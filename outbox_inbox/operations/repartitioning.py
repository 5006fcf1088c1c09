"""Repartition: spread the unfinished rows over another number of partitions.

All rows of a key move together, since its partition follows from the key alone: so the order
within a key is kept, and every follower still waits behind its head.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import Delivery, InboxMessage, Partition, Queue, table
from outbox_inbox.outbox.stream_relay import unsent
from outbox_inbox.queues.partitions import ensure_partitions, operator_lock, partition_count
from outbox_inbox.queues.statements.dialects import dialect
from outbox_inbox.queues.statements.moved import refusals_explained

from .selection import MODELS, has_state, state_sql
from .table_locks import lock_tables, retry_until_locked


@dataclass(frozen=True, slots=True)
class Repartitioned:
    """What happened to one queue of a context.

    Fields:
        before, after: how many partitions it had and has.
        moved: unfinished messages or deliveries whose partition changed.
    """

    context: str
    queue: Queue
    before: int
    after: int
    moved: int


def repartition(
    chosen: Iterable[Context] | None = None, *, dry_run: bool = False
) -> list[Repartitioned]:
    """Spread the unfinished rows of each queue over the partitions that the settings name.

    One transaction a context and queue, under the locks of all its partitions: workers wait
    meanwhile. On PostgreSQL writers wait as well, and transactions that have written are waited
    for: they would commit rows to partitions that no worker reads any more. Call it when every
    process runs with the new ``PARTITIONS``. Rows that a process with the old ones wrote later (on
    MySQL also a transaction that was open) are moved by a second call, which changes nothing else.

    Arguments:
        chosen: which contexts; None (default) means all.
        dry_run: change nothing, and count.

    Raises:
        OutboxInboxError: some partitions of a queue are paused and others are not; or a
            transaction that has written to a queue stays open for a minute; or the stream was the
            source of a context, and has events that are not sent yet.
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
    after = partition_count(context, queue)
    if queue == Queue.OUTBOX and after > 1 and unsent(context, most=1).events:
        raise OutboxInboxError(
            f"the stream of {context.label!r}, which was its source, has events that are not sent yet. "
            "With several partitions later events could overtake them: give the outbox one partition "
            "until manage.py drain_outbox has sent them, and repartition it then"
        )

    def spread(connection: BaseDatabaseWrapper) -> tuple[int, int]:
        with operator_lock(context, queue):
            if not dry_run:
                # A row committed after the UPDATE would stay in a partition that no worker reads.
                lock_tables(connection, [MODELS[queue]])
            before = _change_partitions(context, queue, after)
            moved = _reassign_rows(connection, context, queue, after)
            if dry_run:
                transaction.set_rollback(True, using=context.database)
        return before, moved

    with refusals_explained():
        before, moved = retry_until_locked(context.database, spread)
    return Repartitioned(context.label, queue, before, after, moved)


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
