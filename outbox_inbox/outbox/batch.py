"""One batch of the relay: what is sent, what the transport confirmed, and what is marked, in one transaction.

The outbox and the stream differ in where messages come from and in what is written about them: that is
a `Source`. The order of the steps is here, once, since the rules depend on it: nothing is marked before
the transport has confirmed it (O1), and nothing is sent past an earlier message of its key (O3).

A batch is bounded in rows and in bytes, as `BatchBound` says. When a time-out ends it early, what was
confirmed by then is kept; the others are not touched.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import ClassVar, Generic, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError

from outbox_inbox.conf import faults
from outbox_inbox.conf.clock import monotonic
from outbox_inbox.exceptions import MessageConflict, MessageRefused, TransportUnavailable
from outbox_inbox.models import Kind, Queue
from outbox_inbox.queues import announcements, intake, statements
from outbox_inbox.queues.attempts import Verdict, error_line
from outbox_inbox.queues.outcome import MoverCall, Outcome
from outbox_inbox.queues.run import AttemptFailed, Run, ends_worker
from outbox_inbox.queues.statements import PendingRow
from outbox_inbox.queues.statements.dialects import gave_way
from outbox_inbox.queues.statements.stream_pages import StreamRow
from outbox_inbox.transports import OutgoingMessage, Published, Transport
from outbox_inbox.transports.batch_bound import BatchBound
from outbox_inbox.transports.outgoing import outgoing

from .unclaimed import split_unclaimed

R = TypeVar("R", PendingRow, StreamRow)


@dataclass(slots=True)
class BatchResult:
    """What a batch has done; it is counted and announced after the commit, see `report_batch`."""

    sent: int = 0
    """How many messages are on their way."""
    held: int = 0
    """Followers set to wait behind a blocked head."""
    failed: list[tuple[PendingRow, Verdict]] = field(default_factory=list)
    """Messages with a failed attempt, and what it leads to."""


class Source(ABC, Generic[R]):
    """Where the messages of one batch come from, and what is written about them.

    Its methods are called in this order, once each, in a transaction that holds the lock of the outbox
    partition. `sendable` and `settle` are not called for an empty batch, `end_before` only for a batch
    that was cut short.
    """

    stored: ClassVar[bool]
    """The ids of its rows are positions in the stream, and not ids in the outbox."""
    exhausted = False
    """The last batch was all that there was to be sent."""

    @abstractmethod
    def read(self, size: int, max_bytes: int) -> Sequence[R]:
        """Return the next messages in order: at most ``size``, and ``max_bytes`` if it is not one."""

    @abstractmethod
    def sendable(self, result: BatchResult) -> Sequence[R]:
        """Return those that wait for no earlier message of their key (rule O3)."""

    @abstractmethod
    def end_before(self, row: R) -> None:
        """Leave this one of the messages, which is not the first, and all behind it as they are."""

    @abstractmethod
    def settle(
        self, sent: set[int], refused: Mapping[int, MessageRefused], result: BatchResult
    ) -> None:
        """Mark what was sent (rule O1), and write what becomes of the other messages.

        Arguments:
            sent: ids of what the transport has confirmed, and of what is in the own inbox now.
            refused: id -> why the transport does not take the message.
        """

    @abstractmethod
    def close(self) -> None:
        """Write how far the source was read."""


def send_batch(run: Run, transport: Transport, source: Source[R], size: int) -> BatchResult:
    """Send the next messages of a source in one transaction; return what it has done.

    After an error nothing is marked. What the transport has got by then is sent again with the same
    id, and the inbox of the subscriber drops it (rule O7).

    Raises:
        Lost: another worker has owned the partition since.
        TransportUnavailable: an outage, which is not a message's fault.
        AttemptFailed: one of the messages may be the cause; which one is unknown.
        django.db.Error: the database is out of reach.
    """
    result = BatchResult()
    with run.attempt():
        faults.point("relay.after_lock")
        bound = transport.bound(run.context.label, run.number)
        rows = source.read(bound.rows(size), bound.max_bytes)
        faults.point("relay.after_select")
        if rows:
            _send(run, transport, source, bound, result)
            faults.point("relay.after_mark")
        source.close()
    faults.point("relay.after_commit")
    return result


def report_batch(run: Run, call: MoverCall, result: BatchResult) -> None:
    """Count and announce what a batch has done: after its commit, as before it may be undone."""
    dead = sum(verdict.dead for _, verdict in result.failed)
    call.add(
        Outcome(done=result.sent, failed=len(result.failed) - dead, dead=dead, held=result.held)
    )
    if result.sent:
        announcements.message_sent(run.context, run.number, result.sent)
    for row, verdict in result.failed:
        announcements.message_failed(run.context, row, verdict)


def within_bytes(rows: Sequence[R], sizes: Iterable[int], max_bytes: int) -> Sequence[R]:
    """Return the first rows, as many as do not exceed the bytes together; at least one, if any."""
    for number, total in enumerate(accumulate(sizes)):
        if total > max_bytes and number:
            return rows[:number]
    return rows


def _send(
    run: Run, transport: Transport, source: Source[R], bound: BatchBound, result: BatchResult
) -> None:
    sendable = source.sendable(result)
    free, left = split_unclaimed(run, sendable)
    rows: Sequence[R] = [row for row in sendable if row.id in free] if left else sendable
    faults.point("relay.before_publish")
    contracts: Sequence[R] = [row for row in rows if row.kind == Kind.INTEGRATION]
    if transport.needs_text:
        contracts = _with_texts(run, contracts, stored=source.stored)
    messages = [outgoing(run.connection, row, run.number) for row in contracts]
    published = _publish(run, transport, messages, bound, full=not source.exhausted)
    confirmed = set(published.sent)
    if confirmed:
        run.reached = transport.positions(run.context, Queue.OUTBOX, run.number)
    if published.outage is not None:
        rows = _end_early(source, rows, published, published.outage)
        confirmed.intersection_update(row.id for row in rows)
    moved = _move_to_inbox(run, rows, confirmed, stored=source.stored)
    faults.point("relay.after_publish")
    # A crash here sends the batch once more. The other order would lose it: marked, and never sent.
    faults.point("relay.before_mark")
    source.settle(confirmed | moved, {**published.refused, **left}, result)
    run.recovered()


def _with_texts(run: Run, rows: Sequence[R], *, stored: bool) -> Sequence[R]:
    """Return messages with the texts that were too large to be read with all others."""
    large = [row.id for row in rows if row.payload is None]
    if not large:
        return rows
    texts = statements.select_texts(run.connection, large, stored=stored)
    return [
        row._replace(payload=texts[row.id][0], headers=texts[row.id][1])
        if row.payload is None
        else row
        for row in rows
    ]


def _publish(
    run: Run,
    transport: Transport,
    messages: Sequence[OutgoingMessage],
    bound: BatchBound,
    *,
    full: bool,
) -> Published:
    if not messages:
        return Published(sent=())
    begin = monotonic()
    try:
        published = _call_transport(run, transport, messages)
    except TransportUnavailable:
        bound.halve()
        raise
    if published.outage is None:
        bound.note_batch(monotonic() - begin, full=full)
    else:
        bound.halve()
    return published


def _call_transport(
    run: Run, transport: Transport, messages: Sequence[OutgoingMessage]
) -> Published:
    try:
        return transport.publish(run.context, messages)
    except (OSError, ImproperlyConfigured) as error:
        # No connection, no file, no such host, a wrong setting: the next message would meet it too.
        if ends_worker(error):
            raise
        raise TransportUnavailable(error_line(error)) from error
    except DatabaseError as error:
        # One that moves rows does so by our own statements. What another one does with a database
        # of its own says nothing about that of the context, unless that has rolled back or is gone.
        rolled_back = gave_way(run.connection, error, waited=False)
        if transport.writes_inboxes or rolled_back or run.disconnected(error):
            raise
        raise AttemptFailed(error) from error


def _end_early(
    source: Source[R], rows: Sequence[R], published: Published, outage: TransportUnavailable
) -> Sequence[R]:
    """End a batch before the first message that an outage left open; return those before it.

    What was confirmed behind it is published again. It would otherwise be sent before an earlier
    message of its key, or, in a stream, the checkpoint would pass over that one.
    """
    known = {*published.sent, *published.refused}
    blocked: set[str | None] = set()
    for number, row in enumerate(rows):
        if row.id in published.refused and row.key is not None:
            blocked.add(row.key)
        if row.kind == Kind.DOMAIN or row.id in known or row.key in blocked:
            continue
        if known.isdisjoint(each.id for each in rows[:number]):
            raise outage
        source.end_before(row)
        return rows[:number]
    return rows


def _move_to_inbox(run: Run, rows: Sequence[R], confirmed: set[int], *, stored: bool) -> set[int]:
    """Move domain events to the own inbox, but none behind a contract of its key that was not sent."""
    blocked: set[str | None] = set()
    own: list[R] = []
    for row in rows:
        if row.kind == Kind.DOMAIN and row.key not in blocked:
            own.append(row)
        elif row.id not in confirmed and row.key is not None:
            blocked.add(row.key)
    if not own:
        return set()
    ids, label = [row.id for row in own], run.context.label
    for conflict in intake.move_messages(run.connection, ids, label, label, stored=stored).values():
        # Not one of a batch: its followers were moved as well. The careful walk that this leads to
        # takes it alone, so that it is a dead letter that blocks them (rule O3).
        raise MessageConflict(conflict)
    return set(ids)
