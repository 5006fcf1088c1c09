"""The receiver: takes messages from a context's transport into its inbox."""

from collections.abc import Callable, Sequence
from itertools import groupby

from django.db import connections, transaction

from . import faults, intake, statements
from .conf import settings
from .contexts import Context
from .dialects import stamp
from .models import Queue
from .partitions import look
from .tally import Outcome, Tally, ignore, never
from .transports import ReceivedMessage, Transport, transport


def receive_messages(
    context: Context,
    *,
    limit: int | None = None,
    stop: Callable[[], bool] = never,
    progress: Callable[[int], None] = ignore,
) -> Outcome:
    """Receive until nothing is left, in a transaction of its own for each batch.

    Messages of contracts that the context does not subscribe to are acknowledged and dropped;
    one whose id is in the inbox already is acknowledged and dropped as well (rule O7).

    Arguments:
        limit: read at most so many messages; default: until there are no more.
        stop: asked between batches; true ends the call.
        progress: told how many messages each batch had.

    Raises:
        TransportUnavailable: nothing was lost; call again.
    """
    source = transport(context.transport)
    if source.writes_inboxes:
        return Outcome()
    tally = Tally(limit, stop, progress)
    more = True
    while more and not tally.finished():
        once = _receive_batch(context, source, tally.size())
        tally.add(once)
        more = once.done > 0
    return tally.outcome


def _receive_batch(context: Context, source: Transport, size: int) -> Outcome:
    (partition,) = look(context, Queue.INTAKE)
    connection = connections[context.database]
    freeze_ms = int(settings().frozen_after.total_seconds() * 1000)
    with transaction.atomic(using=context.database):
        # One receiver at a time: with two, a key's messages could change places (rule O4).
        held = statements.lock_partition(connection, partition.id, freeze_ms)
        if held is None:
            return Outcome(busy=1)
        if held.paused:
            return Outcome()
        messages = source.receive(context, size)
        if not messages:
            return Outcome()
        faults.point("receive.after_read")
        _store(context, messages)
        faults.point("receive.after_insert")
    faults.point("receive.after_commit")
    source.acknowledge(context, messages)
    faults.point("receive.after_ack")
    return Outcome(done=len(messages))


def _store(context: Context, messages: Sequence[ReceivedMessage]) -> None:
    wanted = [message for message in messages if message.type in context.subscribed]
    for label, group in groupby(wanted, key=lambda message: message.source):
        intake.insert([_row(context, message) for message in group], context, label)


def _row(context: Context, message: ReceivedMessage) -> statements.Received:
    return statements.Received(
        message_id=message.id,
        type=message.type,
        schema_version=message.version,
        key=message.key,
        payload=message.data,
        headers=message.headers,
        correlation_id=message.correlation_id,
        causation_id=message.causation_id,
        hops=message.hops,
        key_hash=message.key_hash,
        recorded_at=stamp(connections[context.database], message.time),
    )
