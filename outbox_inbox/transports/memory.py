"""``memory://``: a log in this process, for tests and for trying out what a broker changes.

It behaves like a broker, not like ``local://``: publishing and receiving are two steps, messages
are kept for subscribers that come later, and they come again until they are acknowledged. The log
ends with the process and its messages are lost, so it is not for production.

A test leaves nothing behind: what was published and acknowledged in it is forgotten when Django rolls
the database back, or empties it.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from outbox_inbox.conf import TransportSettings
from outbox_inbox.contexts import Context
from outbox_inbox.queues.moments import Moment

from . import wire
from .base import OutgoingMessage, Published, ReceivedMessage, Transport


@dataclass(frozen=True, slots=True)
class _Acknowledgement:
    """A context has stored every message below a receipt."""

    label: str
    below: int
    moment: Moment


class MemoryTransport(Transport):
    """One append-only log with a reading position for each subscribing context."""

    can_wait = True
    thread_safe = True

    def __init__(self, settings: TransportSettings) -> None:
        super().__init__(settings)
        self._lock = threading.Condition()
        self._next = 0  # receipt of the next message; never used twice
        self._log: list[tuple[Moment, list[ReceivedMessage]]] = []
        self._acknowledged: list[_Acknowledgement] = []
        self._of_thread = threading.local()

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        """See `Transport.publish`; every message is accepted."""
        moment = Moment.now(source.database)
        with self._lock:
            if not self._log or self._log[-1][0] != moment:
                self._log.append((moment, []))
            for message in messages:
                entry = ReceivedMessage(
                    receipt=self._next,
                    attributes=wire.attributes_of(source, message),
                    data=message.data.encode(),
                )
                self._next += 1
                self._log[-1][1].append(entry)
            self._lock.notify_all()
        return Published(sent=[message.row for message in messages])

    def has_messages(self, context: Context) -> bool:
        with self._lock:
            return next(self._unread(context), None) is not None

    def wait_for_messages(self, contexts: Sequence[Context], seconds: float) -> bool:
        with self._lock:
            seen = getattr(self._of_thread, "seen", 0)
            self._lock.wait_for(lambda: self._next > seen, seconds)
            self._of_thread.seen = self._next
            return self._next > seen

    def receive(self, context: Context, limit: int) -> Sequence[ReceivedMessage]:
        with self._lock:
            return list(islice(self._unread(context), limit))

    def acknowledge(self, context: Context, messages: Sequence[ReceivedMessage]) -> None:
        moment = Moment.now(context.database)
        with self._lock:
            below = max(message.receipt for message in messages) + 1
            before = self._position(context)
            # One for each moment: those of a test that is rolled back give way to the ones before it.
            self._acknowledged = [
                each
                for each in self._acknowledged
                if each.moment.counts and (each.label, each.moment) != (context.label, moment)
            ]
            kept = _Acknowledgement(context.label, max(below, before), moment)
            self._acknowledged.append(kept)

    def _position(self, context: Context) -> int:
        """Return the receipt below which the context has acknowledged everything."""
        return max(
            (
                each.below
                for each in self._acknowledged
                if each.label == context.label and each.moment.counts
            ),
            default=0,
        )

    def _unread(self, context: Context) -> Iterator[ReceivedMessage]:
        """Yield unacknowledged messages of the context's sources, as a broker's subscription does."""
        self._log = [(moment, part) for moment, part in self._log if part and moment.counts]
        wanted, position = {f"/{label}" for label in context.sources}, self._position(context)
        for _, part in self._log:
            # The receipts of a part have no gaps.
            for message in islice(part, max(position - part[0].receipt, 0), None):
                if message.attributes["source"] in wanted:
                    yield message
