"""The publishing side: a whole batch goes out, then all of its confirmations come in.

RabbitMQ confirms each message on its own, in any order, or many at once. A confirmation that is
waited for costs a round trip and a sync of the disk; many that are waited for together cost little
more than one.
"""

import re
from collections.abc import Mapping, Sequence
from math import inf
from typing import Final

from amqp import PreconditionFailed

from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import MessageRefused
from outbox_inbox.transports import wire
from outbox_inbox.transports.base import OutgoingMessage, Published

from . import headers
from .link import Link
from .options import Options
from .session import Session
from .topology import Topology

_LONGEST_KEY: Final = 255  # bytes of a routing key


class Publisher:
    """Publishes the batches of all contexts of a transport over one connection."""

    def __init__(self, options: Options, topology: Topology) -> None:
        self._topology = topology
        self._mandatory = options.unroutable == "refuse"
        self._link = Link(options, "publishing")
        self._session: Session | None = None
        self._largest = inf  # bytes of a body; the server says so when it meets a larger one

    def publish(
        self, source: Context, messages: Sequence[OutgoingMessage], seconds: float
    ) -> Published:
        """See `Transport.publish`."""
        with self._link.within(seconds) as connection:
            session = self._session
            if session is None or session.connection is not connection:
                session = self._session = Session(connection)
            session.prepare(self._topology, source)
            exchange = self._topology.exchange(source.label)
            batch = _Batch(session, source, exchange, self._largest, mandatory=self._mandatory)
            try:
                return batch.publish(messages)
            except PreconditionFailed as error:
                # It closes the channel, and the batch is published again without that message.
                self._largest = _largest(error, self._largest)
                raise


class _Batch:
    """One call of `publish`."""

    def __init__(
        self,
        session: Session,
        source: Context,
        exchange: str,
        largest: float,
        *,
        mandatory: bool,
    ) -> None:
        self._session = session
        self._source = source
        self._exchange = exchange
        self._largest = largest
        self._mandatory = mandatory
        self._unroutable: dict[str, MessageRefused] = {}
        self._refused: dict[int, MessageRefused] = {}
        self._stuck: set[str | None] = set()

    def publish(self, messages: Sequence[OutgoingMessage]) -> Published:
        self._session.confirms.returned.clear()
        tried = [each for each in messages if each.key not in self._stuck and self._try(each)]
        self._session.settle()
        returned = self._session.confirms.returned
        if any(str(each.id) in returned for each in tried):
            tried = self._without_returned(tried, returned)
        return Published(sent=[each.row for each in tried], refused=self._refused)

    def _try(self, message: OutgoingMessage) -> bool:
        """Publish a message; false when it was refused."""
        attributes = wire.attributes_of(self._source, message)
        data = message.data.encode()
        kind = attributes["type"]
        refusal = self._unroutable.get(kind) or self._too_large(message, attributes, data)
        if refusal is None:
            self._send(attributes, data)
            if self._mandatory and kind not in self._session.routed:
                refusal = self._explore(message, kind)
        if refusal is not None:
            self._refuse(message, refusal)
        return refusal is None

    def _explore(self, message: OutgoingMessage, kind: str) -> MessageRefused | None:
        """Wait until it is known whether anybody gets the first message of a type.

        If not, no later message of its key may be on its way when that is found out (rule O3).
        """
        self._session.settle()
        why = self._session.confirms.returned.get(str(message.id))
        if why is None:
            self._session.routed.add(kind)
            return None
        self._session.forget()
        self._unroutable[kind] = _unroutable(kind, why)
        return self._unroutable[kind]

    def _send(self, attributes: dict[str, str], data: bytes) -> None:
        session = self._session
        session.confirms.expect()
        session.connection.writes.hold()
        message = headers.outgoing(attributes, data)
        session.channel.publish(
            message, self._exchange, attributes["type"], mandatory=self._mandatory
        )

    def _without_returned(
        self, tried: Sequence[OutgoingMessage], returned: Mapping[str, str]
    ) -> list[OutgoingMessage]:
        """Return those that count as sent when some came back although their type had a route.

        Their binding has vanished in between, and later messages of their keys may have overtaken
        them. Those do not count as sent, and come again behind them.
        """
        self._session.forget()
        kept: list[OutgoingMessage] = []
        stuck: set[str | None] = set()
        for message in tried:
            why = returned.get(str(message.id))
            if message.key in stuck:
                continue
            if why is None:
                kept.append(message)
            else:
                self._refused[message.row] = _unroutable(message.type, why)
                stuck |= {message.key} - {None}
        return kept

    def _refuse(self, message: OutgoingMessage, refusal: MessageRefused) -> None:
        self._refused[message.row] = refusal
        if message.key is not None:
            self._stuck.add(message.key)

    def _too_large(
        self, message: OutgoingMessage, attributes: dict[str, str], data: bytes
    ) -> MessageRefused | None:
        frame = self._session.connection.frame_max
        # Only headers can be that long, and some of them are carried twice.
        if len(message.headers) > frame // 10 - 1000 and headers.size_of(attributes) > frame:
            return MessageRefused(f"its attributes exceed a frame of AMQP ({frame:,} bytes)")
        if len(attributes["type"].encode()) > _LONGEST_KEY:
            return MessageRefused(f"its type exceeds a routing key of AMQP ({_LONGEST_KEY} bytes)")
        if len(data) > self._largest:
            return MessageRefused(
                f"it has {len(data):,} bytes, and this RabbitMQ takes {self._largest:,.0f} "
                "(max_message_size)"
            )
        return None


def _unroutable(kind: str, why: str) -> MessageRefused:
    return MessageRefused(
        f"no queue is bound for {kind} ({why}): no subscriber has run yet, or there is none; "
        'start it, or set UNROUTABLE to "drop"'
    )


def _largest(error: PreconditionFailed, before: float) -> float:
    """Return what the server says about the size of messages, when it refuses one as too large."""
    found = re.search(r"max size (\d+)", str(error.reply_text))
    return float(found[1]) if found else before
