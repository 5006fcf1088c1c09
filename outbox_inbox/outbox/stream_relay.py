"""The relay of a stream: sends what a context recorded from its stream, without an outbox.

Where the stream is the source (``source = "stream"``) the relay follows it with a checkpoint of its
own, under the lock of the outbox's only partition. What is sent and how far the relay is are one
transaction. Only an event that cannot be sent at once goes to the outbox, and with it the later events
of its key: attempts, back-off, dead letters and parked keys are there, the same for both sources. A
page with an error that no event could be blamed for goes there as a whole, and is sent one by one
(rule O9).

An event itself says whether the outbox got it as well. So a context may change its source while
messages are under way: neither way loses one or sends one twice. The change is one moment for all
processes (``queues/layouts.py``): what is in the outbox then is older than what the stream gets
afterwards, and what the stream has then goes to the outbox in that moment.
"""

import sys
from collections.abc import Mapping, Sequence
from itertools import takewhile

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf import faults
from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import MessageRefused
from outbox_inbox.models import Kind
from outbox_inbox.queues import statements
from outbox_inbox.queues.layouts import stored_layout
from outbox_inbox.queues.outcome import MoverCall
from outbox_inbox.queues.relay_source import follows_stream
from outbox_inbox.queues.run import AttemptFailed, Lost, Run
from outbox_inbox.queues.statements import checkpoints
from outbox_inbox.queues.statements.layouts import RELAY
from outbox_inbox.queues.statements.stream_pages import StreamRow
from outbox_inbox.streams.subscriptions import Cursor, Lag, behind, open_cursor
from outbox_inbox.transports import Transport

from .batch import BatchResult, Source, report_batch, send_batch, within_bytes

_MOVED = 5_000  # events in one statement, without their text


def unsent(context: Context, kind: Kind | None = None, *, most: int | None = None) -> Lag:
    """Return what the relay must still send of a context's stream.

    Arguments:
        kind: only such events; default: all.
        most: stop counting at so many; default: count all.
    """
    if not follows_stream(context):
        return Lag(events=0, since=None)
    return behind(context, RELAY, unsent=True, kind=kind, most=most)


def send_stream(run: Run, call: MoverCall, transport: Transport) -> None:
    """Send the events of the stream, page by page, until its end; raises as `send_batch`.

    After a page that went to the outbox it returns: what is there is older than the next page.

    Raises:
        SettingsError: the database cannot serve streams; check E010 says so before.
    """
    more = run.number == 0 and run.follows
    if more:
        checkpoints.require_subscriptions(run.connection)
    while more and not (run.ended or call.finished()):  # one transaction a page
        more = _send_page(run, call, transport)


def _send_page(run: Run, call: MoverCall, transport: Transport) -> bool:
    size = call.batch_size()
    if run.careful:
        _leave_page_to_outbox(run, size)
        return False
    page = StreamPage(run, text=transport.needs_text)
    try:
        report_batch(run, call, send_batch(run, transport, page, size))
    except AttemptFailed:
        # It is unknown which event is the cause: the careful walk through the outbox finds out.
        run.careful = size
        return True
    return not page.cursor.caught_up


def _leave_page_to_outbox(run: Run, size: int) -> None:
    page = StreamPage(run, text=False)
    with run.locked():
        rows = page.read(size, sys.maxsize)  # nothing is carried, only copied by the database
        faults.point("relay.after_select")
        if rows:
            page.leave_to_outbox(rows)
            faults.point("relay.after_mark")
        page.close()
    faults.point("relay.after_commit")


def move_stream_to_outbox(connection: BaseDatabaseWrapper, context: Context) -> int:
    """Put all that is to be sent of a stream into the outbox, in the open transaction; return how much.

    The caller owns the outbox, and has shut out all that write to both. Of each key it comes behind
    what the outbox has: that is older, since it has come there from the stream as well.

    Raises:
        Lost: an operator has locked the checkpoint of the relay.
        SettingsError, ForeignCheckpoint: as `open_cursor`.
    """
    cursor, moved = open_cursor(connection, context, RELAY), 0
    if cursor is None:
        raise Lost
    layout, reading = stored_layout(context), statements.carried(connection, "s", None)
    while not cursor.caught_up:
        rows = cursor.read(_MOVED, unsent=True, reading=reading)
        if rows:
            moved += statements.spill_events(connection, [row.id for row in rows], layout)
        cursor.save()
    return moved


class StreamPage(Source[StreamRow]):
    """The next page of the stream of a run's context."""

    stored = True
    cursor: Cursor
    """The relay's place in the stream, in the transaction that is open."""

    def __init__(self, run: Run, *, text: bool) -> None:
        self._run = run
        self._text = text
        self._rows: Sequence[StreamRow] = ()

    def read(self, size: int, max_bytes: int) -> Sequence[StreamRow]:
        cursor = open_cursor(self._run.connection, self._run.context, RELAY)
        if cursor is None:  # an operator has the lock of the checkpoint
            raise Lost
        self.cursor = cursor
        largest = max_bytes // size if self._text else None
        reading = statements.carried(self._run.connection, "s", largest)
        found = cursor.read(size, unsent=True, reading=reading)
        self._rows = within_bytes(found, (row.size or 0 for row in found), max_bytes)
        if len(self._rows) < len(found):
            cursor.end_page_at(self._rows[-1])
        self.exhausted = cursor.caught_up
        return self._rows

    def sendable(self, result: BatchResult) -> Sequence[StreamRow]:
        keys = sorted({row.key for row in self._rows if row.key is not None})
        if not keys:
            return self._rows
        run = self._run  # earlier messages of a key may still be in the outbox
        blocked = statements.unfinished_keys(run.connection, run.context.label, run.number, keys)
        return [row for row in self._rows if row.key not in blocked]

    def end_before(self, row: StreamRow) -> None:
        self._rows = list(takewhile(lambda each: each.id != row.id, self._rows))
        self.cursor.end_page_at(self._rows[-1])
        self.exhausted = False

    def settle(
        self, sent: set[int], refused: Mapping[int, MessageRefused], result: BatchResult
    ) -> None:
        left = [row for row in self._rows if row.id not in sent]
        if left:
            self.leave_to_outbox(left)
        result.sent = len(sent)

    def close(self) -> None:
        self.cursor.save()  # in the transaction of what was sent

    def leave_to_outbox(self, rows: Sequence[StreamRow]) -> None:
        """Put events into the outbox, in order."""
        layout = stored_layout(self._run.context)
        # A context whose source is the outbox: a process of a version that did not know what is in
        # force may have left something in the stream. It was meant to be sent first.
        in_front = layout.source != "stream"
        if in_front:
            statements.move_spilled_to_front(self._run.connection, layout.context)
        positions = [row.id for row in rows]
        statements.spill_events(self._run.connection, positions, layout, in_front=in_front)
