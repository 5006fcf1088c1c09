"""The relay: sends what is in the outbox of a context, in order, one worker a partition.

An integration event goes to the transport, a domain event to the context's own inbox. A batch is in
``batch.py``, the stream in ``stream_relay.py``, what follows a crash in ``careful_walk.py``.
"""

from collections.abc import Callable

from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import OutboxMessage, Queue
from outbox_inbox.queues.calls import begin_call
from outbox_inbox.queues.outages import back_off_partition
from outbox_inbox.queues.outcome import MoverCall, Outcome, ignore, never
from outbox_inbox.queues.partitions import PartitionStatuses
from outbox_inbox.queues.run import AttemptFailed, Run
from outbox_inbox.queues.sweep import sweep_partitions
from outbox_inbox.transports import transport

from .batch import report_batch, send_batch
from .careful_walk import send_carefully
from .pending_rows import PendingRows
from .stream_relay import send_stream


def relay_outbox(
    context: Context,
    *,
    limit: int | None = None,
    stop: Callable[[], bool] = never,
    progress: Callable[[int], None] = ignore,
    seen: PartitionStatuses | None = None,
    once: bool = False,
) -> Outcome:
    """Send what is due in the outbox, until nothing is left to be sent now.

    Each batch is a transaction of its own on the context's database. May be called by any number
    of processes at once: each partition has one of them at a time.

    Arguments:
        limit: send at most so many messages; default: until empty.
        stop: asked between batches; true ends the call.
        progress: called with how many messages each batch has sent.
        seen: sweep these partitions, once; default: look, until there is nothing left.
        once: look, and give each partition one turn; the caller calls again.

    Raises:
        SettingsError: the outbox has to be repartitioned first.
        django.db.OperationalError: the context's database is out of reach; nothing is lost.
    """
    call = begin_call(context, limit, stop, progress)
    return sweep_partitions(context, Queue.OUTBOX, _relay_partition, call, seen, once=once)


def _relay_partition(run: Run, call: MoverCall) -> None:
    """Send what one partition has, batch by batch."""
    carrier = transport(run.context.transport)
    try:
        send_stream(run, call, carrier)  # first: it is older than what is behind it in the outbox
        while not (run.ended or call.finished()):
            if run.careful:
                report_batch(run, call, send_carefully(run, carrier))
                continue
            if run.promotes():
                # In a transaction of its own. Undone with a batch that fails, it would hide the message
                # that is the cause from the careful walk. And a message that the transport may have
                # must not look as if it waited for its time: cancel() would say that it is not sent.
                with run.locked():
                    run.promote(OutboxMessage)
            size = call.batch_size()
            source = PendingRows(run, text=carrier.needs_text)
            try:
                report_batch(run, call, send_batch(run, carrier, source, size))
            except AttemptFailed:
                # One of these messages may be the cause. The careful walk finds out which, so that
                # the attempt is counted against that one alone.
                run.careful = size
    except TransportUnavailable as error:
        back_off_partition(run, Queue.OUTBOX, error)
