"""One batch of the relay: what is sent, what the transport confirmed, and what is marked, in one transaction.

The outbox and the stream differ in where messages come from and in what is written about them: that is
a `Source`. The order of the steps is here, once, since the rules depend on it: nothing is marked before
the transport has confirmed it (O1), and nothing is sent past an earlier message of its key (O3).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from outbox_inbox.conf import faults
from outbox_inbox.exceptions import MessageRefused
from outbox_inbox.models import Kind
from outbox_inbox.queues import announcements, intake
from outbox_inbox.queues.attempts import Verdict
from outbox_inbox.queues.outcome import MoverCall, Outcome
from outbox_inbox.queues.run import Run
from outbox_inbox.queues.statements import PendingRow
from outbox_inbox.queues.statements.stream_pages import StreamRow
from outbox_inbox.transports import Published, Transport
from outbox_inbox.transports.outgoing import outgoing

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
    partition. `sendable` and `settle` are not called for an empty batch.
    """

    stored: ClassVar[bool]
    """The ids of its rows are positions in the stream, and not ids in the outbox."""

    @abstractmethod
    def read(self, size: int) -> Sequence[R]:
        """Return the next messages in order, at most ``size``."""

    @abstractmethod
    def sendable(self, result: BatchResult) -> Sequence[R]:
        """Return those that wait for no earlier message of their key (rule O3)."""

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
        rows = source.read(size)
        faults.point("relay.after_select")
        if rows:
            _send(run, transport, source, result)
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


def _send(run: Run, transport: Transport, source: Source[R], result: BatchResult) -> None:
    rows = source.sendable(result)
    faults.point("relay.before_publish")
    contracts = [row for row in rows if row.kind == Kind.INTEGRATION]
    messages = [outgoing(run.context, run.connection, row) for row in contracts]
    published = transport.publish(run.context, messages) if messages else Published(sent=())
    confirmed = set(published.sent)
    moved = _move_to_inbox(run, rows, confirmed, stored=source.stored)
    faults.point("relay.after_publish")
    # A crash here sends the batch once more. The other order would lose it: marked, and never sent.
    faults.point("relay.before_mark")
    source.settle(confirmed | moved, published.refused, result)
    run.recovered()


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
    intake.move_messages(run.connection, ids, label, label, stored=stored)
    return set(ids)
