"""kombu's connection to RabbitMQ, with a deadline and with no trust in what strangers sent.

kombu and py-amqp wait for an answer as long as the other side sends anything, and a heartbeat is
something: a server that has run out of memory sends them for ever. Here, each read counts against
one deadline.
"""

import os
import re
import selectors
import ssl
from collections.abc import Callable
from contextlib import suppress
from struct import pack, unpack_from
from time import monotonic
from typing import Any, Final, cast

from amqp import spec
from amqp.basic_message import Message
from amqp.method_framing import frame_writer
from amqp.serialization import dumps, loads
from kombu.transport import pyamqp

from .headers import PREFIX, UNREADABLE

_HEADER_FRAME: Final = 2
_HAS_HEADERS: Final = 0x2000
_CHUNK: Final = 65_536  # bytes
_MOMENT: Final = 0.05  # seconds


class Writes:
    """What goes to the server: frame by frame, or held back and sent many at once.

    py-amqp passes each frame to the system on its own, which costs more than to make it.
    """

    def __init__(self, write: Callable[[Any], None], before: Callable[[], None]) -> None:
        self._write = write
        self._before = before
        self._holding = False
        self._held = bytearray()

    def write(self, frame: Any) -> None:
        """Send a frame, or keep a copy of it; py-amqp uses its buffer again."""
        if not self._holding:
            self._write(frame)
            return
        self._held += frame
        if len(self._held) >= _CHUNK:
            self._flush()

    def hold(self) -> None:
        """Hold frames back from now on. Whoever waits for an answer has to release them before."""
        self._holding = True

    def release(self) -> None:
        """Send what was held back, and hold no more."""
        self._holding = False
        self._flush()

    def _flush(self) -> None:
        held, self._held = self._held, bytearray()
        if held:
            self._before()
            self._write(held)


class QuietChannel(pyamqp.Channel):
    """A channel that no delivery can disturb."""

    is_closing: bool
    events: dict[str, set[Callable[..., None]]]
    connection: "Connection"

    def dispatch_method(self, method_sig: Any, payload: Any, content: Any) -> Any:
        """Hand over a delivery without reading its routing key, which may be no text at all.

        What is delivered while the channel closes goes back into its queue.
        """
        if method_sig != spec.Basic.Deliver:
            return super().dispatch_method(method_sig, payload, content)
        if self.is_closing:
            return None
        (consumer, tag, again), _ = loads("sLb", payload, 4)
        deliver: Callable[..., None] = getattr(self, "_on_basic_deliver")  # noqa: B009  no stub
        return deliver(consumer, tag, again, None, None, content)

    def publish(self, message: Message, exchange: str, key: str, *, mandatory: bool) -> None:
        """Publish without a look at what the server has said, which `basic_publish` takes first."""
        arguments = (0, exchange, key, mandatory, False)
        self.send_method(spec.Basic.Publish, "Bssbb", arguments, message)

    def declare(self, queue: str, **terms: Any) -> tuple[int, int]:
        """Declare a queue; return how many messages are ready in it, and how many consume it."""
        found: Any = self.queue_declare(queue, **terms)
        return found.message_count, found.consumer_count


class Connection(pyamqp.Connection):
    """A connection with a deadline, which no message can break that a stranger sent.

    Attributes:
        deadline: of the monotonic clock; no read goes on after it.
        blocked: the server has run out of memory or disk, and takes nothing.
    """

    Channel = QuietChannel
    server_properties: dict[str, Any]
    frame_max: int
    writes: Writes

    def __init__(self, *, deadline: float, **options: Any) -> None:
        self.deadline = deadline
        self.blocked = False
        super().__init__(
            on_blocked=lambda _reason: self._block(state=True),
            on_unblocked=lambda: self._block(state=False),
            frame_writer=self._writer,
            **options,
        )

    def _writer(self, _: Any, transport: Any) -> Any:
        self.writes = Writes(transport.write, self.limit_writes)
        return frame_writer(self, self.writes)

    def _block(self, *, state: bool) -> None:
        self.blocked = state

    @property
    def version(self) -> tuple[int, ...]:
        """The version of the server, such as (3, 10, 8); empty when it does not say."""
        given = str(self.server_properties.get("version", ""))
        return tuple(int(number) for number in re.findall(r"\d+", given)[:3])

    def open_channel(self) -> QuietChannel:
        """Open another channel."""
        channel: Any = self.channel()
        return cast(QuietChannel, channel)

    def limit_writes(self) -> None:
        """Let no write go on after the deadline."""
        if self.sock is not None:
            self.sock.settimeout(self.left())

    def leave(self) -> None:
        """Close the socket in this process only: after a fork it is the parent's as well."""
        if self.connected and self.sock is not None:
            os.close(self.sock.detach())

    def left(self) -> float:
        """Return the seconds that are left.

        Raises:
            TimeoutError: none are.
        """
        left = self.deadline - monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def blocking_read(self, timeout: float | None = None) -> Any:
        """Read a frame; whatever waits for an answer comes through here."""
        left = self.left()
        with self.transport.having_timeout(left if timeout is None else min(timeout, left)):
            frame = self.transport.read_frame()
        try:
            return self.on_inbound_frame(frame)
        except Exception as error:
            if frame[0] != _HEADER_FRAME:
                raise
            return self.on_inbound_frame(_without_properties(frame, error))

    def read_what_is_there(self) -> None:
        """Take what has arrived so far; half a frame stays for later."""
        # Not with a time-out of 0: py-amqp then spins until the other half has come.
        with suppress(TimeoutError):
            while self._has_something():
                self.blocking_read(_MOMENT)

    def _has_something(self) -> bool:
        sock = self.sock
        if sock is None or (isinstance(sock, ssl.SSLSocket) and sock.pending()):
            return True
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            return bool(selector.select(0))


def _without_properties(frame: Any, error: Exception) -> Any:
    """Return the header frame of a message whose properties py-amqp cannot decode.

    It would raise at each redelivery, and nothing behind the message would ever be received: a
    time stamp beyond the year 9999 in a header is enough.
    """
    kind, channel, header = frame
    why = {PREFIX + UNREADABLE: f"{type(error).__name__}: {error}"[:500]}
    (class_id, body_size) = unpack_from(">HxxQ", header)
    table = pack(">HxxQH", class_id, body_size, _HAS_HEADERS) + dumps("F", (why,))
    return kind, channel, table


class Driver(pyamqp.Transport):
    """kombu's driver for RabbitMQ with our connections."""

    Connection = Connection
