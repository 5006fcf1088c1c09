"""Receives from the queue of one context, and counts the messages that wait in queues."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from math import inf
from time import monotonic, sleep
from typing import Final, cast

from amqp.basic_message import Message

from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.transports.base import ReceivedMessage

from . import headers
from .connection import Connection, QuietChannel
from .reconnector import Reconnector
from .topology import Topology

PREFETCH: Final = 1000
"""Messages that may be delivered without being acknowledged.

The same number in every process and every version: a quorum queue puts returned messages behind those
that were returned before. Only a reader that may take at least as many as the one before takes all of
them, and so leaves them in order if it crashes as well.
"""

_PAUSE: Final = 0.1  # seconds between two polls
_GRACE: Final = 0.5
"""Seconds to wait for a message that is known to be in the queue.

The server delivers it within milliseconds, unless the connection of a frozen process still consumes
the queue.
"""


class QueueReader:
    """Consumes the queue of one context, from its first `receive` until it is closed.

    Attributes:
        opened: when it declared the queue, on the monotonic clock.
    """

    def __init__(self, reconnector: Reconnector, topology: Topology, context: Context) -> None:
        self._reconnector = reconnector
        self._topology = topology
        self._context = context
        self._channel: QuietChannel | None = None
        self._connection: Connection | None = None
        self._arrived: list[Message] = []
        self.opened = -inf
        self._acknowledged = 0
        self._expected = 0  # known to have arrived or to be in the queue

    def receive(self, limit: int) -> Sequence[ReceivedMessage]:
        """See `Transport.receive`."""
        wanted = min(limit, PREFETCH)
        with self._reconnector.connection() as connection:
            channel = self._open_channel(connection)
            self._await_messages(connection, channel, wanted)
        return [headers.received_message(message) for message in islice(self._arrived, wanted)]

    @property
    def has_more(self) -> bool:
        """Whether messages have arrived, or are about to, that `receive` has not returned yet.

        The server does not count them in the queue any more.
        """
        return bool(self._arrived) or self._underway > 0

    def acknowledge(self, last: int) -> None:
        """Acknowledge all messages up to a delivery tag."""
        with self._reconnector.connection() as connection:
            self._open_channel(connection).basic_ack(last, multiple=True)
        unacknowledged = [each for each in self._arrived if cast(int, each.delivery_tag) > last]
        self._acknowledged += len(self._arrived) - len(unacknowledged)
        self._arrived[:] = unacknowledged

    def close(self) -> None:
        """Return what was not acknowledged to the queue, and free it for the next reader."""
        channel, self._channel = self._channel, None
        if channel is None or not self._reconnector.is_current(self._connection):
            return
        # If the server does not answer, the connection is dropped, with the same effect.
        with suppress(TransportUnavailable), self._reconnector.connection() as connection:
            if connection is self._connection:
                # Not cancelled first: the next reader would get the messages behind ours, out of
                # order (rule O4).
                channel.close()
                if self._arrived or self._underway:
                    self._await_return(connection)

    @property
    def _underway(self) -> int:
        """How many messages are known to be in the queue and have not arrived yet."""
        return self._expected - self._acknowledged - len(self._arrived)

    def _open_channel(self, connection: Connection) -> QuietChannel:
        if self._channel is None:
            channel = connection.open_channel()
            self._expected = self._topology.declare_subscriber(channel, self._context)
            channel.basic_qos(0, PREFETCH, a_global=False)
            queue = self._topology.queue(self._context)
            channel.basic_consume(queue, callback=self._arrived.append)
            self._channel, self._connection = channel, connection
            self.opened = monotonic()
        if connection is not self._connection:
            label = self._context.label
            raise TransportUnavailable(f"the connection of {label!r} to RabbitMQ was lost")
        return self._channel

    def _await_messages(self, connection: Connection, channel: QuietChannel, wanted: int) -> None:
        """Read until as many messages have arrived as wanted, or the queue is empty."""
        while len(self._arrived) < wanted:
            if self._underway > 0:
                if not self._read_one(connection):
                    self._expected = 0
                    return
            elif self._arrived or not self._count_queue(channel):
                return

    def _count_queue(self, channel: QuietChannel) -> bool:
        """Ask how many messages are in the queue; False if it is empty and none arrived meanwhile."""
        found = self._topology.queue_counts(channel, self._context)
        self._expected = self._acknowledged + (found[0] if found else 0)
        return self._underway > 0 or bool(self._arrived)

    def _read_one(self, connection: Connection) -> bool:
        """Read until one more message has arrived; False if none did in time."""
        before = len(self._arrived)
        until = monotonic() + _GRACE
        while len(self._arrived) == before:
            left = until - monotonic()
            if left <= 0:
                return False
            with suppress(TimeoutError):
                connection.blocking_read(left)
        return True

    def _await_return(self, connection: Connection) -> None:
        """Wait until the server has returned unacknowledged messages to the queue; it takes a moment."""
        channel = connection.open_channel()
        until = monotonic() + _GRACE
        while monotonic() < until:
            found = self._topology.queue_counts(channel, self._context)
            if found is None or not found[1]:
                break
        channel.close()


class Backlog:
    """Counts the messages in queues, over a connection that no other thread uses at the same time."""

    def __init__(self, reconnector: Reconnector, topology: Topology) -> None:
        self._reconnector = reconnector
        self._topology = topology
        self._channel: QuietChannel | None = None
        self._connection: Connection | None = None
        self._counts: dict[str, int] = {}

    def count_messages(self, context: Context) -> int | None:
        """Return how many messages wait for a context, in one round trip; None: no such queue."""
        with self._reconnector.connection() as connection:
            if self._channel is None or self._connection is not connection:
                self._channel, self._connection = connection.open_channel(), connection
            found = self._topology.queue_counts(self._channel, context)
        return None if found is None else found[0]

    def wait_for_change(self, contexts: Sequence[Context], seconds: float) -> bool:
        """Poll until a queue has changed and is not empty; False if none has in time."""
        end = monotonic() + seconds
        while not any(self._has_changed(each) for each in contexts):
            left = end - monotonic()
            if left <= 0:
                return False
            sleep(min(left, _PAUSE))
        return True

    def _has_changed(self, context: Context) -> bool:
        # Messages of a paused partition stay in the queue; they must not keep the process busy.
        found = self.count_messages(context) or 0
        before = self._counts.get(context.label, 0)
        self._counts[context.label] = found
        return found not in (0, before)
