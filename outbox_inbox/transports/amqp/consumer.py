"""The receiving side: one consumer, for as long as a context is attached."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from time import monotonic, sleep
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

_LOOK: Final = 0.1  # seconds between two glances


class Consumer:
    """Receives for one context, from its first `receive` until it is closed."""

    def __init__(self, link: Link, topology: Topology, context: Context) -> None:
        self._link = link
        self._topology = topology
        self._context = context
        self._channel: QuietChannel | None = None
        self._connection: Connection | None = None
        self._arrived: list[Message] = []
        self._due = 0  # messages that are known to be in the queue and have not arrived

    def receive(self, limit: int, seconds: float) -> Sequence[ReceivedMessage]:
        """See `Transport.receive`."""
        wanted = min(limit, PREFETCH)
        with self._link.within(seconds) as connection:
            channel = self._opened(connection)
            self._fill(connection, channel, wanted)
        return [headers.received(message) for message in islice(self._arrived, wanted)]

    def acknowledge(self, last: int, seconds: float) -> None:
        """Acknowledge all messages up to a delivery tag."""
        with self._link.within(seconds) as connection:
            self._opened(connection).basic_ack(last, multiple=True)
        self._arrived[:] = [each for each in self._arrived if _tag(each) > last]

    def close(self, seconds: float) -> None:
        """Give back what was not acknowledged, and let the next one in."""
        if self._channel is None:
            return
        # If the server does not answer the connection is dropped, which is as good.
        with suppress(TransportUnavailable), self._link.within(seconds) as connection:
            if connection is self._connection:
                # Not cancelled first: the next consumer would get what comes after our messages.
                self._channel.close()
                if self._arrived or self._due:
                    self._wait_until_back(connection)
        self._channel = None

    def _opened(self, connection: Connection) -> QuietChannel:
        if self._channel is None:
            channel = connection.open_channel()
            channel.auto_decode = False
            self._due = self._topology.declare_subscriber(channel, self._context)
            channel.basic_qos(0, PREFETCH, a_global=False)
            channel.basic_consume(
                self._topology.queue(self._context), callback=self._arrived.append
            )
            self._channel, self._connection = channel, connection
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
                    self._due = 0
                    return
            elif self._arrived:
                return
            else:
                before = len(self._arrived)
                found = self._topology.ready(channel, self._context)
                came = len(self._arrived) - before
                self._due = max((found[0] if found else 0) - came, 0)
                if not (self._due or came):
                    return

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
        self._due -= len(self._arrived) - before
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


class Glance:
    """Looks into queues from outside, without consuming."""

    def __init__(self, link: Link, topology: Topology) -> None:
        self._link = link
        self._topology = topology
        self._channel: QuietChannel | None = None
        self._connection: Connection | None = None

    def finds(self, context: Context, seconds: float) -> bool:
        """Tell whether messages wait for a context, in one round trip.

        A queue that is still to be made counts as one with messages: who attaches makes it.
        """
        with self._link.within(seconds) as connection:
            if self._channel is None or self._connection is not connection:
                self._channel, self._connection = connection.open_channel(), connection
            found = self._topology.ready(self._channel, context)
        return found is None or found[0] > 0

    def waits_for(self, contexts: Sequence[Context], seconds: float, timeout: float) -> bool:
        """Look again and again, until there is something or ``seconds`` are over."""
        end = monotonic() + seconds
        while not any(self.finds(context, timeout) for context in contexts):
            left = end - monotonic()
            if left <= 0:
                return False
            sleep(min(left, _LOOK))
        return True
