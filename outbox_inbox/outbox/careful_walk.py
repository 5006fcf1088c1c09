"""The careful walk: one message at a time, so that the one that breaks its worker is found.

It follows a run without a clean end, and a batch with an error that no message could be blamed for.
Without it one such message would end every run at the same place, for ever.
"""

from django.db import Error as DatabaseError

from outbox_inbox.conf import settings
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import OutboxMessage
from outbox_inbox.queues import statements
from outbox_inbox.queues.attempts import MOST_CRASHES, crash_error
from outbox_inbox.queues.run import AttemptFailed, GaveWay, Run
from outbox_inbox.queues.statements import PendingRow
from outbox_inbox.transports import Transport

from .batch import BatchResult, send_batch
from .pending_rows import CountedRow, PendingRows, store_failure


def send_carefully(run: Run, transport: Transport) -> BatchResult:
    """Send the next message, with its attempt committed before the transport gets it (rule O9).

    That is two transactions. A crash between them or in the second leaves the attempt counted: after
    MAX_ATTEMPTS of them the message is a dead letter, and the others of the partition go on.

    Raises:
        TransportUnavailable, Lost: as `send_batch`; after an outage the attempt is uncounted.
        django.db.Error: so is it if the database refuses a statement; if its connection is lost, which
            the message may have caused, the attempt stays counted.
    """
    run.careful -= 1
    result = BatchResult()
    row = _count_attempt(run, result)
    if row is None:
        return result
    try:
        source = CountedRow(run, row, text=transport.needs_text)
        return send_batch(run, transport, source, size=1)
    except (TransportUnavailable, GaveWay):
        # Neither is the message's fault: an outage of an hour must not use up its attempts.
        run.uncount_attempt(OutboxMessage, row.id)
        raise
    except DatabaseError:
        if run.connected():
            run.uncount_attempt(OutboxMessage, row.id)
        raise
    except AttemptFailed as failure:
        with run.locked():
            result.failed = store_failure(run, row, failure.error, row.attempts + 1)
        return result


def _count_attempt(run: Run, result: BatchResult) -> PendingRow | None:
    """Commit the attempt of the next message; None: it must not be sent, or the outbox is empty."""
    with run.locked() as connection:
        run.promote(OutboxMessage)
        rows = PendingRows(run, text=False).read(1, max_bytes=1)
        if not rows:
            run.end()
            return None
        (row,) = rows
        if row.blocked:
            result.held = statements.park_followers(connection, OutboxMessage, [row.id])
        elif row.attempts >= min(MOST_CRASHES, settings().max_attempts) and not row.failed:
            result.failed = store_failure(run, row, crash_error(), row.attempts)
        else:
            statements.count_attempt(connection, OutboxMessage, row.id)
            return row
    return None
