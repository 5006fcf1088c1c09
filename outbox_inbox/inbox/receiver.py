"""The receiver: takes messages from a context's transport into its inbox."""

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

from django.db import connections

from outbox_inbox.conf import faults, settings
from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import QuarantineReason, Queue
from outbox_inbox.queues import announcing, intake, statements
from outbox_inbox.queues.attempts import describe
from outbox_inbox.queues.outcome import Outcome, Tally, ignore, never
from outbox_inbox.queues.partitions import PartitionStatuses
from outbox_inbox.queues.run import Lost, Run
from outbox_inbox.queues.sweep import sweep_partitions
from outbox_inbox.transports import ReceivedMessage, Transport, transport

from .admission import Refusal, accept_message
from .quarantine import RefusedMessage, announce_quarantined, quarantine_messages

_well: WeakKeyDictionary[Transport, set[str]] = WeakKeyDictionary()
"""Labels of contexts whose intake has forgotten every outage that this process knows of.

Where nothing has come and there is nothing to be forgotten, the database is not even asked.
"""


def receive_messages(
    context: Context,
    *,
    limit: int | None = None,
    stop: Callable[[], bool] = never,
    progress: Callable[[int], None] = ignore,
    seen: PartitionStatuses | None = None,
) -> Outcome:
    """Receive until nothing is left, in a transaction of its own for each batch.

    Messages of contracts that the context does not subscribe to are acknowledged and dropped;
    one whose id is in the inbox already is acknowledged and dropped as well (rule O7). What
    cannot be read is kept aside (`QuarantinedMessage`) and acknowledged.

    Arguments:
        limit: read at most so many messages; default: until there are no more.
        stop: asked between batches; true ends the call.
        progress: told how many messages each batch had.
        seen: go over these partitions, once; default: look, until there is nothing left.

    Raises:
        TransportUnavailable: nothing was lost; call again. The partition rests meanwhile.
    """
    source = transport(context.transport)
    tally = Tally(limit, stop, progress)
    if source.writes_inboxes or not context.subscribed:
        return tally.outcome
    if not _may_have(context) and context.label in _well.get(source, ()):
        return tally.outcome
    return sweep_partitions(context, Queue.INTAKE, _receive, tally, seen)


def _may_have(context: Context) -> bool:
    """Ask the transport, which costs the database nothing; an outage is met again, and noted."""
    source = transport(context.transport)
    try:
        return source.has_messages(context)
    except TransportUnavailable:
        _well.get(source, set()).discard(context.label)
        return True


def _receive(run: Run, tally: Tally) -> None:
    """Receive batch by batch; one receiver at a time, so that no key changes its order (O4)."""
    source = transport(run.context.transport)
    try:
        with source.attached(run.context):
            more = True
            while more and not tally.finished():
                # Asking the transport costs the database nothing, an empty batch four trips.
                more = _receive_batch(run, tally) and _may_have(run.context)
    except Lost:
        tally.add(Outcome(busy=1))
    except TransportUnavailable as error:
        _well.get(source, set()).discard(run.context.label)
        _rest(run, error)
        raise


def _receive_batch(run: Run, tally: Tally) -> bool:
    """Receive once; false when there was nothing."""
    context, source = run.context, transport(run.context.transport)
    with run.locked():
        messages = source.receive(context, tally.size())
        if messages:
            faults.point("receive.after_read")
        kept = _store(context, messages)
        run.recovered()
        if messages:
            faults.point("receive.after_insert")
    _well.setdefault(source, set()).add(context.label)
    if not messages:
        return False
    faults.point("receive.after_commit")
    source.acknowledge(context, messages)
    faults.point("receive.after_ack")
    tally.add(Outcome(done=len(messages)))
    announce_quarantined(context, kept)
    return True


def _store(context: Context, messages: Sequence[ReceivedMessage]) -> list[RefusedMessage]:
    """Store what may come in, and keep the rest aside."""
    kept, _ = admit(context, messages)
    if kept:
        quarantine_messages(context, kept)
    return kept


def admit(
    context: Context, messages: Sequence[ReceivedMessage]
) -> tuple[list[RefusedMessage], list[ReceivedMessage]]:
    """Let into the inbox what may come in, in runs of one source, in the caller's transaction.

    Returns:
        Those that may not, with the reason, and those of contracts nobody subscribed to.
    """
    kept: list[RefusedMessage] = []
    ignored: list[ReceivedMessage] = []
    run: list[tuple[ReceivedMessage, statements.ReceivedRow]] = []
    before = ""
    for message in messages:
        try:
            accepted = accept_message(context, message)
        except Refusal as refusal:
            kept.append(RefusedMessage(message, refusal.reason, refusal.detail))
            continue
        if accepted is None:
            ignored.append(message)
            continue
        if run and accepted.source != before:
            kept += _insert(context, before, run)
            run = []
        before = accepted.source
        run.append((message, accepted.row))
    if run:
        kept += _insert(context, before, run)
    return kept, ignored


def _insert(
    context: Context, source: str, pairs: Sequence[tuple[ReceivedMessage, statements.ReceivedRow]]
) -> list[RefusedMessage]:
    """Insert messages of one source; return those whose id stands for something else."""
    rows = [row for _, row in pairs]
    if intake.insert(rows, context, source) == len(rows):
        return []
    conflicts = {id(row) for row in intake.changed(rows, context, source)}
    return [
        RefusedMessage(
            message, QuarantineReason.CONFLICT, "its id was received before, with another payload"
        )
        for message, row in pairs
        if id(row) in conflicts
    ]


def _rest(run: Run, error: TransportUnavailable) -> None:
    """Let the partition rest until the transport may be back."""
    if run.ended or connections[run.context.database].in_atomic_block:
        return
    delay = settings().backoff.delay(run.outages + 1)
    run.rest(describe(error), delay.total_seconds())
    announcing.partition_backed_off(run.context, Queue.INTAKE, run.number, error, delay)
