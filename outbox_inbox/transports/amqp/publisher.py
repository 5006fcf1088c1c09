"""Publishes a whole batch, then waits for all of its confirmations together.

RabbitMQ confirms each message on its own, in any order, or many at once. One confirmation costs a round
trip and a sync of the disk; many together cost little more. A message counts as sent only after its
confirmation (rule O1); what is open, and the routes that are known, end with the connection. What
was confirmed before that is reported with the outage, so that it is not published again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from math import inf
from typing import Final

from amqp import PreconditionFailed

from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import MessageRefused, TransportUnavailable
from outbox_inbox.transports import wire
from outbox_inbox.transports.base import OutgoingMessage, Published, Refusals

from . import headers
from .connection import Connection, QuietChannel
from .options import Options
from .reconnector import Reconnector
from .topology import Topology

_LONGEST_KEY: Final = 255  # bytes of a routing key


class Publisher:
    """Publishes the batches of all contexts of a transport over one connection."""

    def __init__(self, options: Options, topology: Topology) -> None:
        self._topology = topology
        self._mandatory = options.unroutable == "refuse"
        self._reconnector = Reconnector(options, "publishing")
        self._session: Session | None = None
        # Bytes of a body; the server names its limit when it refuses a larger one.
        self._largest = inf

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        """See `Transport.publish`."""
        begun: list[_Batch] = []
        try:
            return self._publish(source, messages, begun)
        except TransportUnavailable as outage:
            for batch in begun:
                published = batch.published_before(outage)
                if published.sent:
                    return published
            raise

    def _publish(
        self, source: Context, messages: Sequence[OutgoingMessage], begun: list["_Batch"]
    ) -> Published:
        with self._reconnector.connection() as connection:
            session = self._session
            if session is None or session.connection is not connection:
                session = self._session = Session(connection)
            session.declare_source(self._topology, source)
            exchange = self._topology.exchange(source.label)
            batch = _Batch(session, source, exchange, self._largest, self._mandatory)
            begun.append(batch)
            try:
                return batch.publish(messages)
            except PreconditionFailed as error:
                # The server has closed the channel. The batch is published again, and the message
                # that is too large is refused before it is sent.
                limit = re.search(r"max size (\d+)", str(error.reply_text))
                self._largest = float(limit[1]) if limit else self._largest
                raise


@dataclass(slots=True)
class _Batch:
    _session: "Session"
    _source: Context
    _exchange: str
    _largest: float
    _mandatory: bool
    _unroutable: dict[str, MessageRefused] = field(default_factory=dict)
    _refusals: Refusals = field(default_factory=Refusals)
    _numbers: dict[int, OutgoingMessage] = field(default_factory=dict)

    def publish(self, messages: Sequence[OutgoingMessage]) -> Published:
        returned = self._session.confirmations.returned
        returned.clear()
        blocks = self._refusals.blocks
        sent = [each for each in messages if not blocks(each) and self._publish_message(each)]
        self._session.await_confirmations()
        if any(str(each.id) in returned for each in sent):
            sent = self._without_returned(sent, returned)
        return Published(sent=[each.row for each in sent], refused=self._refusals.by_row)

    def published_before(self, outage: TransportUnavailable) -> Published:
        """Return what was confirmed before an outage ended the batch."""
        confirmations = self._session.confirmations
        missing = confirmations.open.keys() | confirmations.nacked
        sent = [
            message.row
            for number, message in self._numbers.items()
            if number not in missing and str(message.id) not in confirmations.returned
        ]
        return Published(sent=sent, refused=self._refusals.by_row, outage=outage)

    def _publish_message(self, message: OutgoingMessage) -> bool:
        """Publish a message; False if it was refused."""
        attributes = wire.attributes_of(self._source, message)
        data = message.data.encode()
        kind = attributes["type"]
        refusal = self._unroutable.get(kind) or self._too_large(message, attributes, data)
        if refusal is None:
            self._send_message(message, attributes, data)
            if self._mandatory and kind not in self._session.routed:
                refusal = self._find_route(message, kind)
        if refusal is not None:
            self._refusals.add(message, refusal)
        return refusal is None

    def _find_route(self, message: OutgoingMessage, kind: str) -> MessageRefused | None:
        """Wait until it is known whether the first message of a type has reached a queue.

        If it has not, a later message of its key that was already published would overtake it
        (rule O3).
        """
        self._session.await_confirmations()
        reason = self._session.confirmations.returned.get(str(message.id))
        if reason is None:
            self._session.routed.add(kind)
            return None
        self._session.forget_routes()
        self._unroutable[kind] = _unroutable(kind, reason)
        return self._unroutable[kind]

    def _send_message(
        self, message: OutgoingMessage, attributes: dict[str, str], data: bytes
    ) -> None:
        session = self._session
        self._numbers[session.confirmations.count_message()] = message
        session.connection.frames.begin_batch()
        content, key = headers.amqp_message(attributes, data), attributes["type"]
        session.channel.publish(content, self._exchange, key, mandatory=self._mandatory)

    def _without_returned(
        self, published: Sequence[OutgoingMessage], returned: Mapping[str, str]
    ) -> list[OutgoingMessage]:
        """Return the messages that count as sent, after some came back although their type had a route.

        Their binding was deleted in between, and later messages of their keys may have overtaken
        them. Those do not count as sent: they are published again, behind the returned ones.
        """
        self._session.forget_routes()
        sent: list[OutgoingMessage] = []
        # Not the refusals of the batch: an earlier message of a key that they block was sent.
        refusals = Refusals()
        for message in published:
            reason = returned.get(str(message.id))
            if refusals.blocks(message):
                continue
            if reason is None:
                sent.append(message)
            else:
                refusals.add(message, _unroutable(message.type, reason))
        self._refusals.by_row |= refusals.by_row
        return sent

    def _too_large(
        self, message: OutgoingMessage, attributes: dict[str, str], data: bytes
    ) -> MessageRefused | None:
        frame = self._session.connection.frame_max
        # Only headers can be that long, and some of them are sent twice.
        if len(message.headers) > frame // 10 - 1000 and headers.size_of(attributes) > frame:
            return MessageRefused(f"its attributes exceed a frame of AMQP ({frame:,} bytes)")
        if len(attributes["type"].encode()) > _LONGEST_KEY:
            return MessageRefused(f"its type exceeds a routing key of AMQP ({_LONGEST_KEY} bytes)")
        if len(data) > self._largest:
            return MessageRefused(
                f"it has {len(data):,} bytes, and this RabbitMQ accepts {self._largest:,.0f} "
                "(max_message_size)"
            )
        return None


def _unroutable(kind: str, reason: str) -> MessageRefused:
    return MessageRefused(
        f"no queue is bound for {kind} ({reason}): no subscriber has run yet, or none exists; "
        'start one, or set UNROUTABLE to "drop"'
    )


class Confirmations:
    """The answers of the server to the messages that were published on a channel."""

    def __init__(self) -> None:
        self.published = 0  # how many were, and the number of the last one
        self.open: dict[int, None] = {}  # numbers of the messages without an answer, in order
        self.returned: dict[str, str] = {}  # message id -> why the server returned the message
        self.nacked: set[int] = set()  # numbers of the messages that the server could not store

    def enable(self, channel: QuietChannel) -> None:
        """Ask the server for confirmations on a channel, and collect them."""
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)

    def count_message(self) -> int:
        """Number a message that is about to be published; the server numbers them the same way."""
        self.published += 1
        self.open[self.published] = None
        return self.published

    def _on_ack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001  py-amqp's call
        if not multiple:
            self.open.pop(tag, None)
            return
        last = tag or self.published  # 0 means all
        for number in list(takewhile(lambda each: each <= last, self.open)):
            del self.open[number]

    def _on_nack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001  py-amqp's call
        before = set(self.open)
        self._on_ack(tag, multiple)
        self.nacked |= before - self.open.keys()

    def _on_return(self, error: Exception, _exchange: str, _key: str, message: object) -> None:
        # Arrives before the confirmation of the same message.
        message_id = getattr(message, "properties", {}).get("message_id", "")
        self.returned[message_id] = getattr(error, "reply_text", None) or str(error)


class Session:
    """A channel with confirmations, and the exchanges and routes that are known to exist."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.channel = connection.open_channel()
        self.confirmations = Confirmations()
        self.confirmations.enable(self.channel)
        self.routed: set[str] = set()  # types of which a message has reached a queue
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
