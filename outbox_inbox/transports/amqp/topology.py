"""The names of the exchanges and queues, and their declarations and bindings."""

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
"""Seconds between the declaration of quorum queues and their binding.

RabbitMQ stores where the log of a new quorum queue is only after up to a second without further work. If it
is killed before, the queue has no leader after the restart, and its confirmed messages are lost; so
nothing may be routed there earlier.
"""


class Topology:
    """Names and declares what the contexts of one transport need; a second declaration is harmless.

    What exists already with other properties raises `TransportUnavailable`.
    """

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

        So a message that is published before a subscriber has ever run waits for it.
        """
        self._declare_exchange(channel, source.label)
        self._declare_all(channel, list(self.subscribers(source)))

    def declare_subscriber(self, channel: QuietChannel, context: Context) -> int:
        """Declare the queue of a subscriber and bind it; return how many messages are ready in it.

        It is bound for every version of a contract, also for those that its publisher adds later.
        """
        return self._declare_all(channel, [context])[0]

    def _declare_all(self, channel: QuietChannel, subscribers: Sequence[Context]) -> list[int]:
        """Declare queues and bind them, new ones only after RabbitMQ has stored them."""
        new = [each for each in subscribers if self.queue_counts(channel, each) is None]
        found = [self._declare_queue(channel, each) for each in subscribers]
        if new and self.queue_arguments(channel.connection)["x-queue-type"] == "quorum":
            time.sleep(WRITTEN_AFTER)
        for context in subscribers:
            self._bind_queue(channel, context)
        return found

    def _bind_queue(self, channel: QuietChannel, context: Context) -> None:
        for label in sorted(context.sources):
            self._declare_exchange(channel, label)
        for name in sorted(context.subscribed):
            exchange = self.exchange(name.partition(".")[0])
            channel.queue_bind(self.queue(context), exchange, f"{name}.*")

    def queue_counts(self, channel: QuietChannel, context: Context) -> tuple[int, int] | None:
        """Return how many messages and how many consumers a subscriber's queue has; None: no queue."""
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
                f"the exchange {name!r} exists already and is not a durable topic exchange "
                f"({error.reply_text}); delete it, or choose another PREFIX"
            ) from error

    def _declare_queue(self, channel: QuietChannel, context: Context) -> int:
        name, arguments = self.queue(context), self.queue_arguments(channel.connection)
        while True:
            try:
                found = channel.declare(name, durable=True, auto_delete=False, arguments=arguments)
            except PreconditionFailed as error:
                # Without it, the queue was declared when the server was older than RabbitMQ 4.
                if "x-delivery-limit" in str(error) and arguments.pop("x-delivery-limit", None):
                    continue
                raise TransportUnavailable(
                    f"the queue {name!r} exists already with other arguments ({error.reply_text}); "
                    "drain and delete it, set QUEUE_TYPE to its type, or choose another QUEUE_PREFIX"
                ) from error
            return found[0]

    def queue_arguments(self, connection: Connection) -> dict[str, Any]:
        """Return the arguments of a queue, as far as the server supports them."""
        version = connection.version
        quorum = self._options.queue_type == "quorum" and version >= QUORUM_SINCE
        arguments: dict[str, Any] = {
            "x-queue-type": "quorum" if quorum else "classic",
            # The partition lock admits one receiver; while the connection of a dead one still
            # exists, only the server can keep messages from it and in order.
            "x-single-active-consumer": True,
        }
        if quorum and version >= LIMITS_SINCE:
            # RabbitMQ 4 drops a message after twenty redeliveries; -1 means never. In RabbitMQ 3
            # it would mean at once.
            arguments["x-delivery-limit"] = -1
        return arguments
