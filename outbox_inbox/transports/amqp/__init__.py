"""``amqp://`` and ``amqps://``: RabbitMQ, through kombu's AMQP driver.

Each publishing context has a durable topic exchange (``events.ordering``), each subscribing one a
durable queue (``inbox.shipping``) that is bound for its subscriptions; the routing key is the type
of the message (``ordering.order_placed.v1``). Messages are persistent and confirmed by the server
in batches. One that no queue wants comes back, and is a failed attempt.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import Final

from outbox_inbox.conf import TransportSettings, settings
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import SettingsError
from outbox_inbox.transports.base import OutgoingMessage, Published, ReceivedMessage, Transport

try:
    import kombu  # noqa: F401  to say what is missing, before our own modules import it
except ImportError as error:
    raise SettingsError(
        "amqp:// needs kombu, which is not installed: pip install 'outbox_inbox[amqp]'"
    ) from error

from . import health
from .backlog import Glance
from .consumer import Consumer
from .link import Link
from .options import read
from .publisher import Publisher
from .topology import Topology

__all__ = ["AmqpTransport"]

_RENEWAL: Final = 60.0  # seconds


class AmqpTransport(Transport):
    """Publishes to and receives from one RabbitMQ; see `options.Options` for its OPTIONS."""

    can_wait = True

    def __init__(self, given: TransportSettings) -> None:
        super().__init__(given)
        self._options = options = read(given)
        self._topology = Topology(options)
        self._publisher = Publisher(options, self._topology)
        self._receiving = Link(options, "receiving")
        self._looking = Glance(self._receiving, self._topology)
        self._waiting = Glance(Link(options, "waiting"), self._topology)
        self._consumers: dict[str, Consumer] = {}
        self._declared: dict[str, float] = {}

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        """See `Transport.publish`; what no queue is bound for is refused."""
        return self._publisher.publish(source, messages, _seconds())

    def problems(self) -> Iterator[str]:
        """See `Transport.problems`: the server's version and offers, and the queues that exist."""
        link = Link(self._options, "looking for problems")
        transports = settings().transports
        owners = [each for each in contexts() if transports[each.transport] is self.settings]
        yield from health.problems(link, self._topology, self._options, owners, _seconds())

    def has_messages(self, context: Context) -> bool:
        """See `Transport.has_messages`; one round trip.

        True as well when the queue was not declared by this process within a minute: who attaches
        makes it, binds it for what is subscribed to by now, and notices when it is another's.
        """
        consumer = self._consumers.get(context.label)
        if consumer is not None and consumer.has_more:
            return True
        if monotonic() - self._declared.get(context.label, -inf) > _RENEWAL:
            return True
        return self._looking.count(context, _seconds()) != 0

    def wait_for_messages(self, owners: Sequence[Context], seconds: float) -> bool:
        """Block until something has arrived for one of some contexts, or the time is over.

        Asks the server ten times a second over a connection of its own, so that a message is
        noticed after 50 ms on the average. May be called beside all other methods.

        Raises:
            TransportUnavailable: the other side cannot be reached.
        """
        return self._waiting.wait(owners, seconds, _seconds())

    @contextmanager
    def attached(self, context: Context) -> Iterator[None]:
        """See `Transport.attached`; the server is only asked when `receive` is."""
        consumer = Consumer(self._receiving, self._topology, context)
        self._consumers[context.label] = consumer
        try:
            yield
        finally:
            del self._consumers[context.label]
            consumer.close(_seconds())

    def receive(self, context: Context, limit: int) -> Sequence[ReceivedMessage]:
        """See `Transport.receive`."""
        consumer = self._consumers[context.label]
        found = consumer.receive(limit, _seconds())
        self._declared[context.label] = consumer.opened
        return found

    def acknowledge(self, context: Context, messages: Sequence[ReceivedMessage]) -> None:
        """See `Transport.acknowledge`."""
        if messages:
            last = max(message.receipt for message in messages)
            self._consumers[context.label].acknowledge(last, _seconds())


def _seconds() -> float:
    return settings().publish_timeout.total_seconds()
