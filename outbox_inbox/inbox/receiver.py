"""The receiver: takes messages from a context's transport into its inbox.

The inbox rows are committed before the transport gets its acknowledgement (rule O4). In the other order a
crash between the two would lose messages; in this one it repeats them, and the inbox drops the repeated
ones by their ids (rule O7).
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import groupby
from weakref import WeakKeyDictionary

from django.db import Error as DatabaseError
from django.db import connections

from outbox_inbox.conf import faults
from outbox_inbox.conf.clock import monotonic
from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import QuarantineReason, Queue
from outbox_inbox.queues import intake, statements
from outbox_inbox.queues.calls import begin_call
from outbox_inbox.queues.interests import require_interests
from outbox_inbox.queues.outages import back_off_partition
from outbox_inbox.queues.outcome import MoverCall, Outcome, ignore, never
from outbox_inbox.queues.partitions import PartitionStatuses
from outbox_inbox.queues.run import Run
from outbox_inbox.queues.sweep import sweep_partitions
from outbox_inbox.transports import ReceivedMessage, Transport, transport
from outbox_inbox.transports.quarantine import (
    RefusedMessage,
    announce_quarantined,
    quarantine_messages,
)

from .admission import Accepted, Refusal, accept_message

_without_outage: WeakKeyDictionary[Transport, set[str]] = WeakKeyDictionary()
"""Labels of contexts whose partition row has no outage that this process knows of.

While nothing arrives, and there is no outage to be cleared, the database is not even asked.
"""


def receive_messages(
    context: Context,
    *,
    limit: int | None = None,
    stop: Callable[[], bool] = never,
    progress: Callable[[int], None] = ignore,
    seen: PartitionStatuses | None = None,
    once: bool = False,
) -> Outcome:
    """Receive until nothing is left, in a transaction of its own for each batch.

    Messages of contracts that the context does not subscribe to are acknowledged and dropped;
    one whose id is in the inbox already is acknowledged and dropped as well (rule O7). What
    cannot be read is quarantined (`QuarantinedMessage`) and acknowledged.

    Arguments: as those of `dispatch_inbox`, for messages and batches.

    Raises:
        TransportUnavailable: nothing was lost; call again. The partition backs off meanwhile.
    """
    source = transport(context.transport)
    call = begin_call(context, limit, stop, progress)
    if source.writes_inboxes or not context.subscribed:
        return call.outcome
    if not _may_have_messages(context) and context.label in _without_outage.get(source, ()):
        return call.outcome
    return sweep_partitions(context, Queue.INTAKE, _receive_partition, call, seen, once=once)


def _may_have_messages(context: Context) -> bool:
    """Ask the transport, which costs the database nothing; an outage is met again, and noted then."""
    source = transport(context.transport)
    try:
        return source.has_messages(context)
    except TransportUnavailable:
        _without_outage.get(source, set()).discard(context.label)
        return True


def _receive_partition(run: Run, call: MoverCall) -> None:
    """Receive batch by batch; with two receivers at once a key could change its order (rule O4)."""
    context = run.context
    source = transport(context.transport)
    try:
        source.recall(context, Queue.INTAKE, run.number, run.positions)
        with source.attached(context):
            more = True
            while more and not call.finished():
                # Asking the transport costs the database nothing, an empty batch four trips.
                more = _receive_batch(run, call) and _may_have_messages(context)
                run.reached = source.positions(context, Queue.INTAKE, run.number)
    except TransportUnavailable as error:
        _without_outage.get(source, set()).discard(context.label)
        if not connections[context.database].in_atomic_block:
            back_off_partition(run, Queue.INTAKE, error)
        raise
    except DatabaseError:
        _without_outage.get(source, set()).discard(context.label)
        raise


def _receive_batch(run: Run, call: MoverCall) -> bool:
    context, source = run.context, transport(run.context.transport)
    with run.locked():
        messages = _take_messages(context, source, call.batch_size())
        if messages:
            faults.point("receive.after_read")
        quarantined, _ = admit(context, messages)
        if quarantined:
            quarantine_messages(context, quarantined)
        run.recovered()
        if messages:
            faults.point("receive.after_insert")
    _without_outage.setdefault(source, set()).add(context.label)
    if not messages:
        return False
    faults.point("receive.after_commit")
    # After the commit: a crash between the two repeats the batch, and loses nothing (rule O4).
    source.acknowledge(context, messages)
    faults.point("receive.after_ack")
    call.add(Outcome(done=len(messages)))
    announce_quarantined(context, quarantined)
    return True


def _take_messages(context: Context, source: Transport, size: int) -> Sequence[ReceivedMessage]:
    """Return a batch: what a time-out has shown to be too many is not asked for again."""
    bound = source.bound(context.label)
    wanted, begin = bound.rows(size), monotonic()
    try:
        messages = source.receive(context, wanted)
    except TransportUnavailable:
        bound.halve()
        raise
    received = sum(len(message.data) for message in messages)
    full = len(messages) >= wanted or received > bound.max_bytes / 2
    bound.note_batch(monotonic() - begin, full=full)
    return messages


def admit(
    context: Context, messages: Sequence[ReceivedMessage]
) -> tuple[list[RefusedMessage], list[ReceivedMessage]]:
    """Admit messages into the inbox, those of one source together, in the caller's transaction.

    Returns:
        Those that must be quarantined, with the reason, and those of contracts that the context does
        not subscribe to.
    """
    refused: list[RefusedMessage] = []
    ignored: list[ReceivedMessage] = []
    admitted: list[tuple[ReceivedMessage, Accepted]] = []
    require_interests(context)  # an operator releases messages without a mover
    connection = connections[context.database]
    # Asked at most once a batch, and only about what this process's code does not have.
    stored = cache(partial(statements.subscribed_versions, connection, context.label))
    for message in messages:
        try:
            accepted = accept_message(context, message, stored)
        except Refusal as refusal:
            refused.append(RefusedMessage(message, refusal.reason, refusal.detail))
        else:
            if accepted is None:
                ignored.append(message)
            else:
                admitted.append((message, accepted))
    for source, pairs in groupby(admitted, key=lambda pair: pair[1].source):
        refused += _insert_messages(context, source, list(pairs))
    return refused, ignored


def _insert_messages(
    context: Context, source: str, pairs: Sequence[tuple[ReceivedMessage, Accepted]]
) -> list[RefusedMessage]:
    """Insert messages of one source; return those whose id stands for something else."""
    rows = [accepted.row for _, accepted in pairs]
    into = (context.label, source, context.database)
    if intake.insert_messages(rows, *into) == len(rows):
        return []
    conflicts = intake.conflicting_rows(rows, *into)
    return [
        RefusedMessage(pairs[index][0], QuarantineReason.CONFLICT, conflict)
        for index, conflict in conflicts.items()
    ]
