"""The names of the exchanges and queues, and their declarations and bindings."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from amqp import NotFound, PreconditionFailed

from outbox_inbox import signals
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.signals.logging import get_logger

from .connection import Connection, QuietChannel
from .options import Options

_logger = get_logger("outbox_inbox.amqp")
QUORUM_SINCE: Final = (3, 8)
LIMITS_SINCE: Final = (4, 0)
_KEEPS_MESSAGES: Final = ("x-queue-type", "x-single-active-consumer", "x-delivery-limit")
"""Arguments in which a queue may differ without losing a message that is published to it."""
WRITTEN_AFTER: float = 1.5
"""Seconds between the declaration of quorum queues and their binding.

RabbitMQ stores where the log of a new quorum queue is only after up to a second without further work. If it
is killed before, the queue has no leader after the restart, and its confirmed messages are lost; so
nothing may be routed there earlier.
"""


class Topology:
    """Names and declares what the contexts of one transport need; a second declaration is harmless.

    What exists already with other properties raises `TransportUnavailable`, unless something else
    of the same intake or source can go on meanwhile.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._foreign: dict[str, dict[str, str]] = {}
        self._remembered: set[str] = set()

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

        So a message that is published before a subscriber has ever run waits for it. A queue that
        exists already and keeps its messages is used as it is: whether it may be received from is
        its subscriber's affair, and the other subscribers get their messages meanwhile. Nor does
        the exchange of another source matter here.
        """
        self._declare_exchange(channel, source.label)
        subscribers = list(self.subscribers(source))
        self._declare_all(channel, subscribers, used_as_it_is=True)
        for context in subscribers:
            self._bind_queue(channel, context, source.label)

    def declare_subscriber(self, channel: QuietChannel, context: Context) -> int:
        """Declare the queue of a subscriber and bind it; return how many messages are ready in it.

        It is bound for every version of a contract, also for those that its publisher adds later.
        """
        (found,) = self._declare_all(channel, [context])
        foreign: dict[str, TransportUnavailable] = {}
        for label in sorted(context.sources):
            try:
                self._declare_exchange(channel, label)
            except TransportUnavailable as error:
                # It costs its own messages only: the queue is bound to the other sources.
                foreign[self.exchange(label)] = error
            else:
                self._bind_queue(channel, context, label)
        if foreign.keys() == set(map(self.exchange, context.sources)):
            raise next(iter(foreign.values()))
        self._report_foreign(context, {place: str(error) for place, error in foreign.items()})
        return found

    def recall(self, text: str) -> None:
        """Take the names of queues that were there before, as `positions` has returned them."""
        found = json.loads(text) if text else []
        if isinstance(found, list):  # the text may be that of another transport
            self._remembered.update(map(str, found))

    def positions(self, subscribers: Iterable[Context]) -> str:
        """Return the names of the queues of subscribers, which exist by now."""
        names = sorted(map(self.queue, subscribers))
        self._remembered.update(names)
        return json.dumps(names)

    def _report_lost(self, context: Context) -> None:
        signals.message_lost.send_robust(
            context.label,
            context=context.label,
            place=f"what was not read of {self.queue(context)}",
            error="the queue is gone: the server lost its data, or the queue was deleted; it is made "
            "again",
        )

    def _note_beginning(self, channel: QuietChannel, context: Context) -> None:
        """Log that a new queue comes too late for what was published before.

        The publisher does not know: its messages have reached the queues of other subscribers.
        """
        for label in sorted(context.sources):
            name = self.exchange(label)
            with suppress(NotFound):
                channel.exchange_declare(name, "topic", passive=True)
                _logger.warning(
                    "inbox of %s: its queue %s is new, and does not have what was published to %s "
                    "before",
                    context.label,
                    self.queue(context),
                    name,
                )

    def _report_foreign(self, context: Context, found: dict[str, str]) -> None:
        """Report the exchanges that cannot be bound, each once until it can be."""
        before, self._foreign[context.label] = self._foreign.get(context.label, {}), found
        for place, error in found.items():
            if before.get(place) != error:
                label = context.label
                signals.source_unreadable.send_robust(
                    label, context=label, place=place, error=error
                )

    def _declare_all(
        self, channel: QuietChannel, subscribers: Sequence[Context], *, used_as_it_is: bool = False
    ) -> list[int]:
        """Declare queues, and return when RabbitMQ has stored new ones, so that they may be bound."""
        new = [each for each in subscribers if self.queue_counts(channel, each) is None]
        for context in new:
            if self.queue(context) in self._remembered:
                self._report_lost(context)
            elif not used_as_it_is:
                self._note_beginning(channel, context)
        found = [
            self._declare_queue(channel, each, used_as_it_is=used_as_it_is) for each in subscribers
        ]
        if new and self.queue_arguments(channel.connection)["x-queue-type"] == "quorum":
            time.sleep(WRITTEN_AFTER)
        return found

    def _bind_queue(self, channel: QuietChannel, context: Context, label: str) -> None:
        """Bind the queue of a context for what it subscribes to of one source."""
        for name in sorted(context.subscribed):
            if name.partition(".")[0] == label:
                channel.queue_bind(self.queue(context), self.exchange(label), f"{name}.*")

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

    def _declare_queue(
        self, channel: QuietChannel, context: Context, *, used_as_it_is: bool
    ) -> int:
        name, arguments = self.queue(context), self.queue_arguments(channel.connection)
        while True:
            try:
                found = channel.declare(name, durable=True, auto_delete=False, arguments=arguments)
            except PreconditionFailed as error:
                # Without it, the queue was declared when the server was older than RabbitMQ 4.
                if "x-delivery-limit" in str(error) and arguments.pop("x-delivery-limit", None):
                    continue
                # A queue that differs in something else may drop what was confirmed for it.
                if used_as_it_is and any(each in str(error) for each in _KEEPS_MESSAGES):
                    return 0
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
