"""The publishing side: a whole batch goes out, then all of its confirmations come in.

RabbitMQ confirms each message on its own, in any order, or many at once. A confirmation that is
waited for costs a round trip and a sync of the disk; many that are waited for together cost little
more than one.
"""

from collections.abc import Sequence

from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import MessageRefused, TransportUnavailable
from outbox_inbox.transports import wire
from outbox_inbox.transports.base import OutgoingMessage, Published

from . import headers
from .connection import Connection, QuietChannel
from .link import Link
from .options import Options
from .topology import Topology

_LONGEST_KEY = 255  # bytes of a routing key


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
        for number in [each for each in self.open if each <= last]:
            del self.open[number]

    def _nack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001  py-amqp's call
        self.nacked = True
        self._ack(tag, multiple)

    def _return(self, error: Exception, _exchange: str, _key: str, message: object) -> None:
        # Comes before the confirmation of the same message.
        message_id = getattr(message, "properties", {}).get("message_id", "")
        self.returned[message_id] = getattr(error, "reply_text", None) or str(error)


class Publisher:
    """Publishes the batches of all contexts of a transport over one connection."""

    def __init__(self, options: Options, topology: Topology) -> None:
        self._topology = topology
        self._mandatory = options.unroutable == "refuse"
        self._link = Link(options, "publishing")
        self._session: _Session | None = None

    def publish(
        self, source: Context, messages: Sequence[OutgoingMessage], seconds: float
    ) -> Published:
        """See `Transport.publish`."""
        with self._link.within(seconds) as connection:
            session = self._session
            if session is None or session.connection is not connection:
                session = self._session = _Session(connection)
            session.prepare(self._topology, source)
            exchange = self._topology.exchange(source.label)
            batch = _Batch(session, source, exchange, mandatory=self._mandatory)
            return batch.publish(messages)


class _Session:
    """What is known as long as one connection holds."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.channel = connection.open_channel()
        self.confirms = Confirms()
        self.confirms.listen(self.channel)
        self.routed: set[tuple[str, str]] = set()
        self._prepared: set[str] = set()

    def prepare(self, topology: Topology, source: Context) -> None:
        """Declare what a source needs, once."""
        if source.label not in self._prepared:
            topology.declare_source(self.channel, source)
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
        while confirms.open:
            self.connection.drain_events()
        if confirms.nacked:
            raise TransportUnavailable("RabbitMQ could not keep a message (basic.nack)")


class _Batch:
    """One call of `publish`."""

    def __init__(
        self, session: _Session, source: Context, exchange: str, *, mandatory: bool
    ) -> None:
        self._session = session
        self._source = source
        self._exchange = exchange
        self._mandatory = mandatory
        self._refused: dict[int, MessageRefused] = {}
        self._stuck: set[str] = set()
        self._unroutable: dict[str, MessageRefused] = {}

    def publish(self, messages: Sequence[OutgoingMessage]) -> Published:
        self._session.confirms.returned.clear()
        tried = [each for each in messages if each.key not in self._stuck and self._try(each)]
        self._session.settle()
        return self._judge(tried)

    def _try(self, message: OutgoingMessage) -> bool:
        """Publish a message, unless it is clear that it will be refused."""
        attributes = wire.attributes_of(self._source, message)
        kind = attributes["type"]
        refusal = self._unroutable.get(kind) or self._too_large(attributes)
        if refusal:
            self._refuse(message, refusal)
            return False
        self._send(attributes, message.data.encode())
        route = (self._exchange, kind)
        if self._mandatory and route not in self._session.routed:
            return self._explore(message, route)
        return True

    def _explore(self, message: OutgoingMessage, route: tuple[str, str]) -> bool:
        """Wait until it is known whether anybody gets the first message of a type.

        If not, no later message of its key may be on its way when that is found out (rule O3).
        """
        self._session.settle()
        why = self._session.confirms.returned.get(str(message.id))
        if why is None:
            self._session.routed.add(route)
            return True
        self._unroutable[route[1]] = refusal = _unroutable(route[1], why)
        self._refuse(message, refusal)
        self._session.forget()
        return False

    def _send(self, attributes: dict[str, str], data: bytes) -> None:
        session = self._session
        # A write has no more time than the whole batch.
        session.connection.limit_writes()
        session.confirms.expect()
        session.channel.basic_publish(
            headers.outgoing(attributes, data),
            exchange=self._exchange,
            routing_key=attributes["type"],
            mandatory=self._mandatory,
        )

    def _judge(self, tried: Sequence[OutgoingMessage]) -> Published:
        """Return what became of the messages that were published.

        One that was returned although its type had a route, since its binding has vanished in
        between, may have been overtaken by others of its key already. Those do not count as sent.
        """
        returned = self._session.confirms.returned
        sent: list[int] = []
        for message in tried:
            why = returned.get(str(message.id))
            if why is not None:
                self._refuse(message, _unroutable(message.type, why))
                self._session.forget()
            elif message.key not in self._stuck:
                sent.append(message.row)
        return Published(sent=sent, refused=self._refused)

    def _refuse(self, message: OutgoingMessage, refusal: MessageRefused) -> None:
        if message.key not in self._stuck:
            self._refused[message.row] = refusal
        if message.key is not None:
            self._stuck.add(message.key)

    def _too_large(self, attributes: dict[str, str]) -> MessageRefused | None:
        limit = self._session.connection.frame_max
        if headers.size_of(attributes) > limit:
            return MessageRefused(f"its headers exceed a frame of AMQP ({limit:,} bytes)")
        if len(attributes["type"].encode()) > _LONGEST_KEY:
            return MessageRefused(f"its type exceeds {_LONGEST_KEY} bytes, a routing key of AMQP")
        return None


def _unroutable(kind: str, why: str) -> MessageRefused:
    return MessageRefused(
        f"no queue is bound for {kind} ({why}): no subscriber has run yet, or there is none; "
        'start it, or set UNROUTABLE to "drop"'
    )
