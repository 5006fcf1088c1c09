"""``memory://``: a log in this process, for tests and for trying out what a broker changes.

It behaves like a broker, not like ``local://``: publishing and receiving are two steps, messages
are kept for subscribers that come later, and they come again until they are acknowledged. The log
ends with the process and its messages are lost, so it is not for production.
"""

import threading
from collections.abc import Iterator, Sequence
from itertools import islice

from outbox_inbox.conf import TransportSettings
from outbox_inbox.contexts import Context

from . import wire
from .base import OutgoingMessage, Published, ReceivedMessage, Transport


class MemoryTransport(Transport):
    """One append-only log with a reading position for each subscribing context."""

    can_wait = True
    thread_safe = True

    def __init__(self, settings: TransportSettings) -> None:
        super().__init__(settings)
        self._lock = threading.Condition()
        self._log: list[ReceivedMessage] = []
        self._acknowledged: dict[str, int] = {}
        self._of_thread = threading.local()

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        """See `Transport.publish`; every message is accepted."""
        with self._lock:
            for message in messages:
                entry = ReceivedMessage(
                    receipt=len(self._log),
                    attributes=wire.attributes_of(source, message),
                    data=message.data.encode(),
                )
                self._log.append(entry)
            self._lock.notify_all()
        return Published(sent=[message.row for message in messages])

    def has_messages(self, context: Context) -> bool:
        with self._lock:
            return next(self._unread(context), None) is not None

    def wait_for_messages(self, contexts: Sequence[Context], seconds: float) -> bool:
        with self._lock:
            seen = getattr(self._of_thread, "seen", 0)
            self._lock.wait_for(lambda: len(self._log) > seen, seconds)
            self._of_thread.seen = len(self._log)
            return len(self._log) > seen

    def receive(self, context: Context, limit: int) -> Sequence[ReceivedMessage]:
        with self._lock:
            return list(islice(self._unread(context), limit))

    def acknowledge(self, context: Context, messages: Sequence[ReceivedMessage]) -> None:
        with self._lock:
            last = max(message.receipt for message in messages) + 1
            self._acknowledged[context.label] = max(last, self._acknowledged.get(context.label, 0))

    def _unread(self, context: Context) -> Iterator[ReceivedMessage]:
        """Yield unacknowledged messages of the context's sources, as a broker's subscription does."""
        wanted = {f"/{label}" for label in context.sources}
        for position in range(self._acknowledged.get(context.label, 0), len(self._log)):
            if self._log[position].attributes["source"] in wanted:
                yield self._log[position]
