"""The state of one publishing connection: open confirmations, and the routes that are known.

A message counts as sent only after its confirmation (rule O1), and both end with the connection.
"""

from itertools import takewhile

from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import TransportUnavailable

from .connection import Connection, QuietChannel
from .topology import Topology


class Confirmations:
    """The answers of the server to the messages that were published on a channel.

    Attributes:
        published: how many were published; the number of the last one.
        open: numbers of the messages that are not confirmed yet, in order.
        returned: message id -> why the server returned the message.
        nacked: the server could not store a message.
    """

    def __init__(self) -> None:
        self.published = 0
        self.open: dict[int, None] = {}
        self.returned: dict[str, str] = {}
        self.nacked = False

    def enable(self, channel: QuietChannel) -> None:
        """Ask the server for confirmations on a channel, and collect them."""
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)

    def count_message(self) -> None:
        """Number a message that is about to be published; the server numbers them the same way."""
        self.published += 1
        self.open[self.published] = None

    def _on_ack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001  py-amqp's call
        if not multiple:
            self.open.pop(tag, None)
            return
        last = tag or self.published  # 0 means all
        for number in list(takewhile(lambda each: each <= last, self.open)):
            del self.open[number]

    def _on_nack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001  py-amqp's call
        self.nacked = True
        self._on_ack(tag, multiple)

    def _on_return(self, error: Exception, _exchange: str, _key: str, message: object) -> None:
        # Arrives before the confirmation of the same message.
        message_id = getattr(message, "properties", {}).get("message_id", "")
        self.returned[message_id] = getattr(error, "reply_text", None) or str(error)


class Session:
    """A channel with confirmations, and the exchanges and routes that are known to exist.

    Attributes:
        routed: types of which a message has reached a queue.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.channel = connection.open_channel()
        self.confirmations = Confirmations()
        self.confirmations.enable(self.channel)
        self.routed: set[str] = set()
        self._declared: set[str] = set()

    def declare_source(self, topology: Topology, source: Context) -> None:
        """Declare the exchange and the queues of a source, once."""
        if source.label not in self._declared:
            # On another channel: RabbitMQ closes a channel whose declaration it refuses, and the
            # confirmations would end with it.
            channel = self.connection.open_channel()
            topology.declare_source(channel, source)
            channel.close()
            self._declared.add(source.label)

    def forget_routes(self) -> None:
        """Declare everything again: a queue or a binding is missing."""
        self._declared.clear()
        self.routed.clear()

    def await_confirmations(self) -> None:
        """Send what was collected, and wait until every message is confirmed."""
        confirmations = self.confirmations
        self.connection.frames.send_batch()
        while confirmations.open:
            self.connection.drain_events()
        if confirmations.nacked:
            raise TransportUnavailable("RabbitMQ could not store a message (basic.nack)")
