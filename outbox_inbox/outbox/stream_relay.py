"""The relay of a stream: sends what a context recorded from its stream, without an outbox.

Where the stream is the source (``source = "stream"``) the relay follows it with a checkpoint of its
own, under the lock of the outbox's only partition: what is sent, and how far it is, are one
transaction. Only what cannot be sent at once is put into the outbox, and with it whatever comes
behind it with the same key: there are the attempts, the back-off, the dead letters and the parked
keys, the same for both sources. A page during which something unknown happened goes there as a
whole, and is sent one by one (rule O9).

An event says itself whether the outbox got it as well. So a context may change its source while
messages are under way: neither way loses one or sends one twice.
"""

from collections.abc import Sequence

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf import faults
from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import Kind
from outbox_inbox.queues import announcing, intake, statements
from outbox_inbox.queues.outcome import Outcome, Tally
from outbox_inbox.queues.relay_source import RELAY, follows_stream
from outbox_inbox.queues.run import Lost, Run
from outbox_inbox.queues.statements import checkpoints
from outbox_inbox.queues.statements.stream_pages import StreamRow
from outbox_inbox.streams.subscriptions import Cursor, Lag, behind, open_cursor
from outbox_inbox.transports import Transport
from outbox_inbox.transports.outgoing import outgoing


def unsent(context: Context, kind: Kind | None = None) -> Lag:
    """Return what of a context's stream the relay has still to send: nothing, without a checkpoint.

    Where the outbox is the source, that is what is left from before. ``kind``: only such events.
    """
    if not follows_stream(context):
        return Lag(events=0, since=None)
    return behind(context, RELAY, unsent=True, kind=kind)


def send_stream(run: Run, tally: Tally, transport: Transport) -> None:
    """Send the events of the stream, page by page, until its end.

    After a page that did not go through it returns: the outbox has the page now.

    Raises:
        Lost: somebody else was at work on the partition.
        TransportUnavailable: the pages before are sent.
        SettingsError: the database cannot serve streams; check E010 says so before.
    """
    more = run.number == 0 and follows_stream(run.context)
    if more:
        checkpoints.require_subscriptions(run.connection)
    while more and not (run.ended or tally.finished()):
        more = _send_page(run, tally, transport)


def _send_page(run: Run, tally: Tally, transport: Transport) -> bool:
    """Send one page in one transaction; false: there is no other, or none for now."""
    locked = False
    try:
        with run.locked() as connection:
            locked = True
            cursor = _cursor(connection, run.context)
            text = (
                "CASE WHEN s.kind = 'integration' THEN {} END" if transport.needs_text else "NULL"
            )
            rows = cursor.read(tally.size(), unsent=True, text=text)
            faults.point("relay.after_select")
            page = _Page(run, transport, rows)
            if rows:
                page.spill(rows) if run.careful else page.send()
                faults.point("relay.after_mark")
            cursor.save()
        faults.point("relay.after_commit")
    except (Lost, TransportUnavailable):
        raise
    except Exception as error:
        if not locked or run.disconnected(error):
            raise
        # Nobody knows which message it was: the outbox finds out, one at a time.
        run.careful = tally.size()
        return True
    tally.add(Outcome(done=page.sent))
    if page.sent:
        announcing.message_sent(run.context, run.number, page.sent)
    return not (cursor.caught_up or run.careful)


def _cursor(connection: BaseDatabaseWrapper, context: Context) -> Cursor:
    cursor = open_cursor(connection, context, RELAY)
    if cursor is None:  # somebody works on the checkpoint by hand
        raise Lost
    return cursor


class _Page:
    """A page of the stream in the transaction in which it is sent."""

    def __init__(self, run: Run, transport: Transport, rows: Sequence[StreamRow]) -> None:
        self.context, self.connection = run.context, run.connection
        self.run, self.transport, self.rows = run, transport, rows
        self.sent = 0

    def send(self) -> None:
        """Publish contracts and move domain events to the inbox; spill what has to wait."""
        faults.point("relay.before_publish")
        stuck = self._stuck_keys()
        free = [row for row in self.rows if row.key not in stuck]
        sent = self._publish([row for row in free if row.kind == Kind.INTEGRATION])
        own = self._keep(free, sent)
        faults.point("relay.after_publish")
        faults.point("relay.before_mark")
        gone = sent | own
        self.spill([row for row in self.rows if row.position not in gone])
        self.sent = len(gone)
        self.run.recovered()

    def spill(self, rows: Sequence[StreamRow]) -> None:
        """Leave events to the outbox, in order."""
        if rows:
            positions = [row.position for row in rows]
            if self.context.source != "stream":  # they are left from before what is in the outbox
                statements.move_spilled_to_front(self.connection, self.context.label)
            statements.spill_events(
                self.connection,
                positions,
                self.context.outbox_partitions,
                in_front=self.context.source != "stream",
            )

    def _stuck_keys(self) -> set[str | None]:
        """Return the keys of which earlier messages are still in the outbox (rule O3)."""
        keys = sorted({row.key for row in self.rows if row.key is not None})
        if not keys:
            return set()
        number = self.run.number
        return {*statements.unfinished_keys(self.connection, self.context.label, number, keys)}

    def _publish(self, rows: Sequence[StreamRow]) -> set[int]:
        if not rows:
            return set()
        messages = [outgoing(self.context, self.connection, row) for row in rows]
        return set(self.transport.publish(self.context, messages).sent)

    def _keep(self, rows: Sequence[StreamRow], sent: set[int]) -> set[int]:
        """Move domain events to the own inbox, but none behind a contract that was held back."""
        stuck: set[str | None] = set()
        own: list[StreamRow] = []
        for row in rows:
            if row.kind == Kind.DOMAIN and row.key not in stuck:
                own.append(row)
            elif row.position not in sent and row.key is not None:
                stuck.add(row.key)
        positions = [row.position for row in own]
        if own:
            types = {row.type for row in own}
            label = self.context.label
            intake.move(self.connection, positions, self.context, label, types, stored=True)
        return set(positions)
