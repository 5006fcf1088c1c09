"""What holds as long as one publishing connection does: confirmations, and what was found out."""

from itertools import takewhile

from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import TransportUnavailable

from .connection import Connection, QuietChannel
from .topology import Topology


class Confirms:
    """What the server has said about the messages that were published on a channel."""

    def __init__(self) -> None:
        self.published = 0
        self.open: dict[int, None] = {}
        self.returned: dict[str, str] = {}
        self.nacked = False

    def listen(self, channel: QuietChannel) -> None:
        """Ask the server for confirmations, and take them."""
        channel.confirm_select()
        channel.events["basic_ack"].add(self._ack)
        channel.events["basic_nack"].add(self._nack)
        channel.events["basic_return"].add(self._return)

    def expect(self) -> None:
        """Count a message; the server counts along."""
        self.published += 1
        self.open[self.published] = None

    def _ack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001  py-amqp's call
        if not multiple:
            self.open.pop(tag, None)
            return
        last = tag or self.published  # 0 stands for all
        for number in list(takewhile(lambda each: each <= last, self.open)):
            del self.open[number]

    def _nack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001  py-amqp's call
        self.nacked = True
        self._ack(tag, multiple)

    def _return(self, error: Exception, _exchange: str, _key: str, message: object) -> None:
        # Comes before the confirmation of the same message.
        message_id = getattr(message, "properties", {}).get("message_id", "")
        self.returned[message_id] = getattr(error, "reply_text", None) or str(error)


class Session:
    """A channel with confirmations, and what is known about its exchanges.

    Attributes:
        routed: types of which a message has found a queue.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.channel = connection.open_channel()
        self.confirms = Confirms()
        self.confirms.listen(self.channel)
        self.routed: set[str] = set()
        self._prepared: set[str] = set()

    def prepare(self, topology: Topology, source: Context) -> None:
        """Declare what a source needs, once."""
        if source.label not in self._prepared:
            # Not on our channel: what RabbitMQ refuses to declare would end the confirmations.
            channel = self.connection.open_channel()
            topology.declare_source(channel, source)
            channel.close()
            self._prepared.add(source.label)

    def forget(self) -> None:
        """Declare anew and believe in no route: a queue or a binding is not there (any more)."""
        self._prepared.clear()
        self.routed.clear()

    def settle(self) -> None:
        """Wait for every confirmation that is still to come.

        Raises:
            TransportUnavailable: the server could not keep a message.
        """
        confirms = self.confirms
        self.connection.writes.release()
        while confirms.open:
            self.connection.drain_events()
        if confirms.nacked:
            raise TransportUnavailable("RabbitMQ could not keep a message (basic.nack)")
