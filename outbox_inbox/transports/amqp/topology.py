"""Which exchanges and queues there are, what they are called, and how they are tied together."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from amqp import NotFound, PreconditionFailed

from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import TransportUnavailable

from .connection import Connection, QuietChannel
from .options import Options

QUORUM_SINCE: Final = (3, 8)
LIMITS_SINCE: Final = (4, 0)
WRITTEN_AFTER: float = 1.5
"""Seconds between the making of quorum queues and their binding.

RabbitMQ writes down where the log of a new quorum queue lies when it has been left alone for up to a
second. Killed before, it comes up with a queue that has no leader, and what it had confirmed for that
queue is gone; so nothing may be routed there earlier.
"""


class Topology:
    """Names and declares what the contexts of one transport need; declaring twice is harmless."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def exchange(self, label: str) -> str:
        """Return the name of the exchange that a context publishes to."""
        return f"{self._options.prefix}.{label}"

    def queue(self, context: Context) -> str:
        """Return the name of the queue of a subscribing context."""
        return f"{self._options.queue_prefix}.{context.label}"

    def subscribers(self, source: Context) -> Iterator[Context]:
        """Yield the contexts of this project that will receive from a source over this transport."""
        for context in contexts():
            if context.transport == source.transport and source.label in context.sources:
                yield context

    def declare_source(self, channel: QuietChannel, source: Context) -> None:
        """Declare the exchange of a source, and the queues of the subscribers that are known here.

        So what is published before a subscriber has ever run waits for it.

        Raises:
            TransportUnavailable: one exists already, and is another sort of thing.
        """
        self._declare_exchange(channel, source.label)
        self._declare_all(channel, list(self.subscribers(source)))

    def declare_subscriber(self, channel: QuietChannel, context: Context) -> int:
        """Declare the queue of a subscriber and bind it; return how many messages are ready in it.

        Every version of a contract comes, also one that its publisher will only have later.

        Raises:
            TransportUnavailable: it exists already, and is another sort of queue.
        """
        return self._declare_all(channel, [context])[0]

    def _declare_all(self, channel: QuietChannel, subscribers: Sequence[Context]) -> list[int]:
        """Declare queues and bind them, new ones only when RabbitMQ has written them down."""
        new = [each for each in subscribers if self.ready(channel, each) is None]
        found = [self._declare_queue(channel, each) for each in subscribers]
        if new and self.arguments(channel.connection)["x-queue-type"] == "quorum":
            time.sleep(WRITTEN_AFTER)
        for context in subscribers:
            self._bind(channel, context)
        return found

    def _bind(self, channel: QuietChannel, context: Context) -> None:
        for label in sorted(context.sources):
            self._declare_exchange(channel, label)
        for name in sorted(context.subscribed):
            exchange = self.exchange(name.partition(".")[0])
            channel.queue_bind(self.queue(context), exchange, f"{name}.*")

    def ready(self, channel: QuietChannel, context: Context) -> tuple[int, int] | None:
        """Return how many messages wait in a subscriber's queue, and how many consumers it has.

        Returns:
            None when there is no such queue.
        """
        try:
            return channel.declare(self.queue(context), passive=True)
        except NotFound:
            return None

    def _declare_exchange(self, channel: QuietChannel, label: str) -> None:
        name = self.exchange(label)
        try:
            channel.exchange_declare(name, "topic", durable=True, auto_delete=False)
        except PreconditionFailed as error:
            raise TransportUnavailable(
                f"the exchange {name!r} exists already and is no durable topic exchange "
                f"({error.reply_text}); delete it, or choose another PREFIX"
            ) from error

    def _declare_queue(self, channel: QuietChannel, context: Context) -> int:
        arguments = self.arguments(channel.connection)
        try:
            return self._declare(channel, context, arguments)
        except PreconditionFailed as error:
            if "x-delivery-limit" not in arguments or "x-delivery-limit" not in str(error):
                raise self._another(context, error) from error
        # It was made when the server was older. See `problems` of the transport.
        del arguments["x-delivery-limit"]
        try:
            return self._declare(channel, context, arguments)
        except PreconditionFailed as error:
            raise self._another(context, error) from error

    def _declare(self, channel: QuietChannel, context: Context, arguments: dict[str, Any]) -> int:
        name = self.queue(context)
        return channel.declare(name, durable=True, auto_delete=False, arguments=arguments)[0]

    def _another(self, context: Context, error: PreconditionFailed) -> TransportUnavailable:
        return TransportUnavailable(
            f"the queue {self.queue(context)!r} exists already with other arguments "
            f"({error.reply_text}); let it run empty and delete it, set QUEUE_TYPE to what it is, "
            "or choose another QUEUE_PREFIX"
        )

    def arguments(self, connection: Connection) -> dict[str, Any]:
        """Return the arguments of a queue, by what the server offers."""
        version = connection.version
        quorum = self._options.queue_type == "quorum" and version >= QUORUM_SINCE
        arguments: dict[str, Any] = {
            "x-queue-type": "quorum" if quorum else "classic",
            # The partition lock has one receiver; the server sees to it until a dead one is gone.
            "x-single-active-consumer": True,
        }
        if quorum and version >= LIMITS_SINCE:
            # RabbitMQ 4 drops a message that came back twenty times, and -1 means never. In
            # RabbitMQ 3 it would mean at once.
            arguments["x-delivery-limit"] = -1
        return arguments
