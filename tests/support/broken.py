"""Transports with one fault each, as their authors might write them by mistake."""

from collections.abc import Sequence

from outbox_inbox.contexts import Context, get_context
from outbox_inbox.exceptions import MessageRefused
from outbox_inbox.transports import OutgoingMessage, Published, ReceivedMessage
from outbox_inbox.transports.memory import MemoryTransport


class Early(MemoryTransport):
    """Takes a message for received as soon as it was handed out."""

    def receive(self, context: Context, limit: int) -> Sequence[ReceivedMessage]:
        found = super().receive(context, limit)
        if found:
            self.acknowledge(context, found)
        return found


class Hasty(MemoryTransport):
    """Hands out what is new before what was not acknowledged."""

    def receive(self, context: Context, limit: int) -> Sequence[ReceivedMessage]:
        found = super().receive(context, 1_000)
        return [*found[-1:], *found[:-1]][:limit]


class Leaky(MemoryTransport):
    """Confirms a message that it does not have."""

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        super().publish(source, messages[:-1] if len(messages) > 1 else messages)
        return Published(sent=[message.row for message in messages])


class Backwards(MemoryTransport):
    """Publishes a batch from its end."""

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        return super().publish(source, messages[::-1])


class Shared(MemoryTransport):
    """Has one queue for all subscribers."""

    def acknowledge(self, context: Context, messages: Sequence[ReceivedMessage]) -> None:
        for label in ("conformance_subscriber", "conformance_bystander"):
            super().acknowledge(get_context(label), messages)


class Lossy(MemoryTransport):
    """Carries what its author's language needs."""

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        return super().publish(
            source,
            [
                each._replace(data=each.data.encode("ascii", "replace").decode())
                for each in messages
            ],
        )


class Greedy(MemoryTransport):
    """Knows no limit."""

    def receive(self, context: Context, limit: int) -> Sequence[ReceivedMessage]:
        return super().receive(context, 1_000_000)


class Denying(MemoryTransport):
    """Says that there is nothing while something is unacknowledged."""

    _handed_out = False

    def has_messages(self, context: Context) -> bool:
        return not self._handed_out and super().has_messages(context)

    def receive(self, context: Context, limit: int) -> Sequence[ReceivedMessage]:
        self._handed_out = True
        return super().receive(context, limit)


class Selective(MemoryTransport):
    """Keeps nothing for a subscriber that has not received yet."""

    def __init__(self, settings: object) -> None:
        super().__init__(settings)  # type: ignore[arg-type]
        self._known = False

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        if self._known:
            return super().publish(source, messages)
        return Published(sent=[message.row for message in messages])

    def has_messages(self, context: Context) -> bool:
        self._known = True
        return True


class Pushing(MemoryTransport):
    """Sends what follows a refused message of its key."""

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        refused = [each for each in messages if "whispered" in each.type]
        sent = super().publish(source, [each for each in messages if each not in refused]).sent
        no = MessageRefused("not this one")
        return Published(sent=sent, refused={each.row: no for each in refused})
