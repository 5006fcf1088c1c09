"""The receiving side: one consumer, for as long as a context is attached."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from math import inf
from time import monotonic
from typing import Final, cast

from amqp.basic_message import Message

from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.transports.base import ReceivedMessage

from . import headers
from .connection import Connection, QuietChannel
from .link import Link
from .topology import Topology

PREFETCH: Final = 1000
"""Messages that may be under way without being acknowledged.

One number for everybody, for ever: a quorum queue puts what comes back behind what came back
before. Only a consumer that may have at least as much as the one before takes all of it, and so
leaves it in order when it crashes as well.
"""

_GRACE: Final = 0.5
"""Seconds after which a message that is known to be there is not waited for any longer.

It is delivered as soon as the server gets round to it, unless the connection of a frozen process
still has the queue.
"""


class Consumer:
    """Receives for one context, from its first `receive` until it is closed.

    Attributes:
        opened: when it declared the queue, by the monotonic clock.
    """

    def __init__(self, link: Link, topology: Topology, context: Context) -> None:
        self._link = link
        self._topology = topology
        self._context = context
        self._channel: QuietChannel | None = None
        self._connection: Connection | None = None
        self._arrived: list[Message] = []
        self.opened = -inf
        self._acknowledged = 0
        self._expected = 0  # as many are known to have arrived or to be in the queue

    def receive(self, limit: int, seconds: float) -> Sequence[ReceivedMessage]:
        """See `Transport.receive`."""
        wanted = min(limit, PREFETCH)
        with self._link.within(seconds) as connection:
            channel = self._opened(connection)
            self._fill(connection, channel, wanted)
        return [headers.received(message) for message in islice(self._arrived, wanted)]

    @property
    def has_more(self) -> bool:
        """Whether messages have arrived, or are about to, that `receive` has yet to return.

        What the server has sent on its way is no longer counted in the queue.
        """
        return bool(self._arrived) or self._due > 0

    def acknowledge(self, last: int, seconds: float) -> None:
        """Acknowledge all messages up to a delivery tag."""
        with self._link.within(seconds) as connection:
            self._opened(connection).basic_ack(last, multiple=True)
        rest = [each for each in self._arrived if _tag(each) > last]
        self._acknowledged += len(self._arrived) - len(rest)
        self._arrived[:] = rest

    def close(self, seconds: float) -> None:
        """Give back what was not acknowledged, and let the next one in."""
        channel, self._channel = self._channel, None
        if channel is None or not self._link.holds(self._connection):
            return
        # If the server does not answer the connection is dropped, which is as good.
        with suppress(TransportUnavailable), self._link.within(seconds) as connection:
            if connection is self._connection:
                # Not cancelled first: the next consumer would get what comes after our messages.
                channel.close()
                if self._arrived or self._due:
                    self._wait_until_back(connection)

    @property
    def _due(self) -> int:
        """How many messages are known to be in the queue and have not arrived."""
        return self._expected - self._acknowledged - len(self._arrived)

    def _opened(self, connection: Connection) -> QuietChannel:
        if self._channel is None:
            channel = connection.open_channel()
            self._expected = self._topology.declare_subscriber(channel, self._context)
            channel.basic_qos(0, PREFETCH, a_global=False)
            queue = self._topology.queue(self._context)
            channel.basic_consume(queue, callback=self._arrived.append)
            self._channel, self._connection = channel, connection
            self.opened = monotonic()
        if connection is not self._connection:
            raise TransportUnavailable(
                f"the connection of {self._context.label!r} to RabbitMQ was lost"
            )
        return self._channel

    def _fill(self, connection: Connection, channel: QuietChannel, wanted: int) -> None:
        """Let messages arrive until there are as many as wanted, or no more in the queue."""
        while len(self._arrived) < wanted:
            if self._due > 0:
                if not self._read(connection):
                    self._expected = 0
                    return
            elif self._arrived or not self._count(channel):
                return

    def _count(self, channel: QuietChannel) -> bool:
        """Ask how many messages are in the queue; false when none are, and none came meanwhile."""
        found = self._topology.ready(channel, self._context)
        self._expected = self._acknowledged + (found[0] if found else 0)
        return self._due > 0 or bool(self._arrived)

    def _read(self, connection: Connection) -> bool:
        """Let one message arrive; false when none came in time."""
        before = len(self._arrived)
        until = monotonic() + _GRACE
        while len(self._arrived) == before:
            left = until - monotonic()
            if left <= 0:
                return False
            with suppress(TimeoutError):
                connection.blocking_read(left)
        return True

    def _wait_until_back(self, connection: Connection) -> None:
        """Wait until the server has put back what was not acknowledged; it takes a moment."""
        channel = connection.open_channel()
        until = monotonic() + _GRACE
        while monotonic() < until:
            found = self._topology.ready(channel, self._context)
            if found is None or not found[1]:
                break
        channel.close()


def _tag(message: Message) -> int:
    return cast(int, message.delivery_tag)
