"""Receives from the queue of one context, and counts the messages that wait in queues."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate, islice
from math import inf
from time import sleep
from typing import Final, cast

from amqp.basic_message import Message

from outbox_inbox.conf.clock import monotonic
from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.transports.base import ReceivedMessage
from outbox_inbox.transports.batch_bound import BatchBound

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
"""Seconds to wait for the next bytes of a message that is known to be in the queue.

The server delivers it within milliseconds, unless the connection of a frozen process still consumes
the queue.
"""


class QueueReader:
    """Consumes the queue of one context, from its first `receive` until it is closed.

    Attributes:
        opened: when it declared the queue, on the monotonic clock.
    """

    def __init__(
        self, reconnector: Reconnector, topology: Topology, context: Context, bound: BatchBound
    ) -> None:
        self._reconnector = reconnector
        self._topology = topology
        self._context = context
        self._bound = bound
        self._channel: QuietChannel | None = None
        self._connection: Connection | None = None
        self._arrived: list[Message] = []
        self._bytes = 0  # of what has arrived
        self.opened = -inf
        self._acknowledged = 0
        self._expected = 0  # known to have arrived or to be in the queue

    def receive(self, limit: int) -> Sequence[ReceivedMessage]:
        """See `Transport.receive`."""
        wanted = min(limit, PREFETCH)
        with self._reconnector.connection() as connection:
            channel = self._open_channel(connection)
            self._await_messages(connection, channel, wanted)
        found = islice(self._arrived, self._fitting(wanted))
        return [headers.received_message(message) for message in found]

    def _fitting(self, wanted: int) -> int:
        """Return how many of the messages that have arrived fit into a batch; at least one, if any."""
        totals = accumulate(len(message.body) for message in islice(self._arrived, wanted))
        return max(1, sum(total <= self._bound.max_bytes for total in totals))

    def _arrive(self, message: Message) -> None:
        self._arrived.append(message)
        self._bytes += len(message.body)

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
        self._arrived = unacknowledged
        self._bytes = sum(len(each.body) for each in unacknowledged)

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
                if self._arrived or self._underway:
                    # They would all arrive before the answer does.
                    connection.deadline = min(connection.deadline, monotonic() + _GRACE)
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
            channel.basic_consume(queue, callback=self._arrive)
            self._channel, self._connection = channel, connection
            self.opened = monotonic()
        if connection is not self._connection:
            label = self._context.label
            raise TransportUnavailable(f"the connection of {label!r} to RabbitMQ was lost")
        return self._channel

    def _await_messages(self, connection: Connection, channel: QuietChannel, wanted: int) -> None:
        """Read until there is a batch, half of the time is over, or the queue is empty.

        The messages that have arrived are kept when the next one takes too long: with the connection
        they would all return to the queue, and come again.
        """
        enough = monotonic() + connection.time_left() / 2
        while len(self._arrived) < wanted and self._bytes <= self._bound.max_bytes:
            if self._arrived and monotonic() > enough:
                return
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
        """Read until one more message has arrived; False if nothing came for a while.

        Raises:
            TimeoutError: the deadline has passed in the middle of the first message.
        """
        before = len(self._arrived)
        until = monotonic() + _GRACE
        while len(self._arrived) == before:
            left = until - monotonic()
            if left <= 0 or (before and connection.deadline <= monotonic()):
                return False
            connection.time_left()
            progress = connection.progress
            with suppress(TimeoutError):
                connection.blocking_read(left)
            if connection.progress != progress:  # a large message on a slow link takes longer
                until = monotonic() + _GRACE
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
