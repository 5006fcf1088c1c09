"""The relay of a stream: sends what a context recorded from its stream, without an outbox.

Where the stream is the source (``source = "stream"``) the relay follows it with a checkpoint of its
own, under the lock of the outbox's only partition. What is sent and how far the relay is are one
transaction. Only an event that cannot be sent at once goes to the outbox, and with it the later events
of its key: attempts, back-off, dead letters and parked keys are there, the same for both sources. A
page with an error that no event could be blamed for goes there as a whole, and is sent one by one
(rule O9).

An event itself says whether the outbox got it as well. So a context may change its source while
messages are under way: neither way loses one or sends one twice.
"""

from collections.abc import Mapping, Sequence

from outbox_inbox.conf import faults
from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import MessageRefused
from outbox_inbox.models import Kind
from outbox_inbox.queues import statements
from outbox_inbox.queues.outcome import MoverCall
from outbox_inbox.queues.relay_source import RELAY, follows_stream
from outbox_inbox.queues.run import AttemptFailed, Lost, Run
from outbox_inbox.queues.statements import checkpoints
from outbox_inbox.queues.statements.stream_pages import StreamRow
from outbox_inbox.streams.subscriptions import Cursor, Lag, behind, open_cursor
from outbox_inbox.transports import Transport

from .batch import BatchResult, Source, report_batch, send_batch


def unsent(context: Context, kind: Kind | None = None) -> Lag:
    """Return what the relay must still send of a context's stream; nothing, without a checkpoint.

    Where the outbox is the source, that is what is left from before. ``kind``: only such events.
    """
    if not follows_stream(context):
        return Lag(events=0, since=None)
    return behind(context, RELAY, unsent=True, kind=kind)


def send_stream(run: Run, call: MoverCall, transport: Transport) -> None:
    """Send the events of the stream, page by page, until its end.

    After a page that went to the outbox it returns: what is there is older than the next page.

    Raises:
        Lost: another worker has owned the partition since.
        TransportUnavailable: the pages before are sent.
        SettingsError: the database cannot serve streams; check E010 says so before.
    """
    more = run.number == 0 and follows_stream(run.context)
    if more:
        checkpoints.require_subscriptions(run.connection)
    while more and not (run.ended or call.finished()):
        more = _send_page(run, call, transport)


def _send_page(run: Run, call: MoverCall, transport: Transport) -> bool:
    """Send one page in one transaction; return whether there is another to be sent now."""
    page, size = StreamPage(run, text=transport.needs_text), call.batch_size()
    if run.careful:
        _leave_page_to_outbox(run, page, size)
        return False
    try:
        report_batch(run, call, send_batch(run, transport, page, size))
    except AttemptFailed:
        # It is unknown which event is the cause: the careful walk through the outbox finds out.
        run.careful = size
        return True
    return not page.cursor.caught_up


def _leave_page_to_outbox(run: Run, page: "StreamPage", size: int) -> None:
    with run.locked():
        rows = page.read(size)
        faults.point("relay.after_select")
        if rows:
            page.leave_to_outbox(rows)
            faults.point("relay.after_mark")
        page.close()
    faults.point("relay.after_commit")


class StreamPage(Source[StreamRow]):
    """The next page of the stream of a run's context.

    Attributes:
        cursor: the relay's place in the stream, in the transaction that is open.
    """

    stored = True
    cursor: Cursor

    def __init__(self, run: Run, *, text: bool) -> None:
        self._run = run
        self._text = "CASE WHEN s.kind = 'integration' THEN {} END" if text else "NULL"
        self._rows: Sequence[StreamRow] = ()

    def read(self, size: int) -> Sequence[StreamRow]:
        """See `Source.read`.

        Raises:
            Lost: an operator has the lock of the checkpoint.
        """
        cursor = open_cursor(self._run.connection, self._run.context, RELAY)
        if cursor is None:
            raise Lost
        self.cursor = cursor
        self._rows = cursor.read(size, unsent=True, text=self._text)
        return self._rows

    def sendable(self, result: BatchResult) -> Sequence[StreamRow]:
        """See `Source.sendable`; earlier messages of a key may still be in the outbox."""
        keys = sorted({row.key for row in self._rows if row.key is not None})
        if not keys:
            return self._rows
        run = self._run
        blocked = statements.unfinished_keys(run.connection, run.context.label, run.number, keys)
        return [row for row in self._rows if row.key not in blocked]

    def settle(
        self,
        sent: set[int],
        refused: Mapping[int, MessageRefused],
        result: BatchResult,
    ) -> None:
        """See `Source.settle`; what was not sent goes to the outbox, in order."""
        left = [row for row in self._rows if row.id not in sent]
        if left:
            self.leave_to_outbox(left)
        result.sent = len(sent)

    def close(self) -> None:
        """See `Source.close`; the checkpoint is saved in the transaction of what was sent."""
        self.cursor.save()

    def leave_to_outbox(self, rows: Sequence[StreamRow]) -> None:
        """Put events into the outbox, in order."""
        run = self._run
        # A context whose source is the outbox again: what is left in the stream is older than what
        # was recorded in the outbox since, and must be sent before it.
        in_front = run.context.source != "stream"
        if in_front:
            statements.move_spilled_to_front(run.connection, run.context.label)
        positions = [row.id for row in rows]
        statements.spill_events(
            run.connection, positions, run.context.outbox_partitions, in_front=in_front
        )
