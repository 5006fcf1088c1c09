"""``memory://``: a log in this process, for tests and for trying out what a broker will change.

It behaves like a broker, not like ``local://``: publishing and receiving are two steps, messages
are kept for subscribers that come later, and they come again until they are acknowledged. It
ends with the process, so it is no way to run anything that must not lose messages.
"""

import threading
from collections.abc import Sequence

from outbox_inbox.conf import TransportSettings
from outbox_inbox.contexts import Context

from .base import OutgoingMessage, Published, ReceivedMessage, Transport


class MemoryTransport(Transport):
    """One append-only log with a reading position for each subscribing context."""

    def __init__(self, settings: TransportSettings) -> None:
        super().__init__(settings)
        self._lock = threading.Lock()
        self._log: list[ReceivedMessage] = []
        self._acknowledged: dict[str, int] = {}

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        """See `Transport.publish`; nothing is ever refused."""
        with self._lock:
            for message in messages:
                self._log.append(_entry(len(self._log), source, message))
        return Published(sent=[message.row for message in messages])

    def receive(self, context: Context, limit: int) -> Sequence[ReceivedMessage]:
        """See `Transport.receive`."""
        with self._lock:
            start = self._acknowledged.get(context.label, 0)
            return self._log[start : start + limit]

    def acknowledge(self, context: Context, messages: Sequence[ReceivedMessage]) -> None:
        """See `Transport.acknowledge`."""
        with self._lock:
            last = max(message.receipt for message in messages) + 1
            self._acknowledged[context.label] = max(last, self._acknowledged.get(context.label, 0))


def _entry(receipt: int, source: Context, message: OutgoingMessage) -> ReceivedMessage:
    return ReceivedMessage(
        receipt=receipt,
        source=source.label,
        id=message.id,
        type=message.type,
        version=message.version,
        key=message.key,
        key_hash=message.key_hash,
        time=message.time,
        correlation_id=message.correlation_id,
        causation_id=message.causation_id,
        hops=message.hops,
        headers=message.headers,
        data=message.data,
    )
