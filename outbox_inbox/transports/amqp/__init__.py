"""``amqp://`` and ``amqps://``: RabbitMQ, through kombu's AMQP driver.

Each publishing context has a durable topic exchange (``events.ordering``), each subscribing one a
durable queue (``inbox.shipping``) that is bound for its subscriptions; the routing key is the type
of the message (``ordering.order_placed.v1``). Messages are persistent, and the server confirms them
in batches. A message without a bound queue comes back, and is a failed attempt.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Final

from outbox_inbox.conf import TransportSettings
from outbox_inbox.conf.clock import monotonic
from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import SettingsError
from outbox_inbox.models import Queue
from outbox_inbox.transports.base import OutgoingMessage, Published, ReceivedMessage, Transport

try:
    import kombu  # noqa: F401  to report a missing package, before our own modules import it
except ImportError as error:
    raise SettingsError(
        "amqp:// needs the package kombu, which is not installed: pip install 'outbox_inbox[amqp]'"
    ) from error

from . import health
from .options import read_options
from .publisher import Publisher
from .queue_reader import Backlog, QueueReader
from .reconnector import Reconnector, local_problems
from .topology import Topology

__all__ = ["AmqpTransport"]

_RENEWAL: Final = 60.0  # seconds


class AmqpTransport(Transport):
    """Publishes to and receives from one RabbitMQ; see `options.Options` for its OPTIONS."""

    can_wait = True

    def __init__(self, settings: TransportSettings) -> None:
        super().__init__(settings)
        self._options = options = read_options(settings)
        self._topology = Topology(options)
        self._publisher = Publisher(options, self._topology)
        self._receiving = Reconnector(options, "receiving")
        self._backlog = Backlog(self._receiving, self._topology)
        self._awaited_backlog = Backlog(Reconnector(options, "waiting"), self._topology)
        self._readers: dict[str, QueueReader] = {}
        self._declared: dict[str, float] = {}

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        return self._publisher.publish(source, messages)

    def local_problems(self) -> Iterator[str]:
        yield from local_problems(self._options)

    def problems(self) -> Iterator[str]:
        reconnector = Reconnector(self._options, "health")
        yield from health.problems(reconnector, self._topology, self._options, self.users())

    def recall(self, context: Context, queue: Queue, number: int, positions: str) -> None:
        self._topology.recall(positions)

    def positions(self, context: Context, queue: Queue, number: int) -> str | None:
        chosen = [context] if queue == Queue.INTAKE else self._topology.subscribers(context)
        return self._topology.positions(chosen)

    def has_messages(self, context: Context) -> bool:
        """See `Transport.has_messages`; one round trip.

        Also True if this process has not declared the queue within a minute: attaching creates the
        queue, binds it for new subscriptions, and finds out whether another program changed it.
        """
        reader = self._readers.get(context.label)
        if reader is not None and reader.has_more:
            return True
        if monotonic() - self._declared.get(context.label, -inf) > _RENEWAL:
            return True
        return self._backlog.count_messages(context) != 0

    def wait_for_messages(self, contexts: Sequence[Context], seconds: float) -> bool:
        """See `Transport.wait_for_messages`.

        It polls the server ten times a second over a connection of its own, so that a message is
        noticed after 50 ms on average.
        """
        return self._awaited_backlog.wait_for_change(contexts, seconds)

    @contextmanager
    def attached(self, context: Context) -> Iterator[None]:
        """See `Transport.attached`; the server is first asked by `receive`."""
        bound = self.bound(context.label)
        reader = QueueReader(self._receiving, self._topology, context, bound)
        self._readers[context.label] = reader
        try:
            yield
        finally:
            del self._readers[context.label]
            reader.close()

    def receive(self, context: Context, limit: int) -> Sequence[ReceivedMessage]:
        reader = self._readers[context.label]
        found = reader.receive(limit)
        self._declared[context.label] = reader.opened
        return found

    def acknowledge(self, context: Context, messages: Sequence[ReceivedMessage]) -> None:
        if messages:
            self._readers[context.label].acknowledge(max(each.receipt for each in messages))
