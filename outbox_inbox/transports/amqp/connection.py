"""kombu's connection to RabbitMQ, with a deadline, and safe from messages of other programs.

kombu and py-amqp wait for an answer as long as the server sends anything, heartbeats included: a
server that has run out of memory sends them without end. Here every read counts against one deadline.
"""

import os
import re
import selectors
import ssl
from collections.abc import Callable
from contextlib import suppress
from struct import pack, unpack_from
from typing import Any, Final, cast

from amqp import spec
from amqp.basic_message import Message
from amqp.method_framing import frame_writer
from amqp.serialization import dumps, loads
from kombu.transport import pyamqp

from outbox_inbox.conf.clock import monotonic

from .headers import PREFIX, UNREADABLE

_HEADER_FRAME: Final = 2
_HAS_HEADERS: Final = 0x2000
_CHUNK: Final = 65_536  # bytes
_MOMENT: Final = 0.05  # seconds


class FrameWriter:
    """Sends frames to the server: one by one, or many in one system call.

    py-amqp makes a system call for each frame, which costs more than making the frame.
    """

    def __init__(self, write: Callable[[Any], None], before: Callable[[], None]) -> None:
        self._write = write
        self._before = before
        self._batching = False
        self._batch = bytearray()

    def write(self, frame: Any) -> None:
        """Send a frame, or copy it into the batch; py-amqp reuses its buffer."""
        if not self._batching:
            self._write(frame)
            return
        self._batch += frame
        if len(self._batch) >= _CHUNK:
            self._flush()

    def begin_batch(self) -> None:
        """Collect frames from now on. Call `send_batch` before waiting for an answer."""
        self._batching = True

    def send_batch(self) -> None:
        """Send the collected frames, and send each further one at once."""
        self._batching = False
        self._flush()

    def _flush(self) -> None:
        batch, self._batch = self._batch, bytearray()
        if batch:
            self._before()
            self._write(batch)


class QuietChannel(pyamqp.Channel):
    """A channel that survives any delivery."""

    is_closing: bool
    events: dict[str, set[Callable[..., None]]]
    connection: "Connection"

    def dispatch_method(self, method_sig: Any, payload: Any, content: Any) -> Any:
        """Pass on a delivery without decoding its routing key, which may not be text.

        A delivery that arrives while the channel closes returns to its queue.
        """
        if method_sig != spec.Basic.Deliver:
            return super().dispatch_method(method_sig, payload, content)
        if self.is_closing:
            return None
        (consumer, tag, again), _ = loads("sLb", payload, 4)
        deliver: Callable[..., None] = getattr(self, "_on_basic_deliver")  # noqa: B009  no stub
        return deliver(consumer, tag, again, None, None, content)

    def publish(self, message: Message, exchange: str, key: str, *, mandatory: bool) -> None:
        """Publish without first reading from the server, as `basic_publish` does."""
        arguments = (0, exchange, key, mandatory, False)
        self.send_method(spec.Basic.Publish, "Bssbb", arguments, message)

    def declare(self, queue: str, **terms: Any) -> tuple[int, int]:
        """Declare a queue; return how many messages are ready in it, and how many consume it."""
        found: Any = self.queue_declare(queue, **terms)
        return found.message_count, found.consumer_count


class Connection(pyamqp.Connection):
    """A connection with a deadline, which a malformed message cannot break.

    Attributes:
        deadline: on the monotonic clock; every read and write ends by then.
        blocked: the server has run out of memory or disk, and accepts nothing.
    """

    Channel = QuietChannel
    server_properties: dict[str, Any]
    frame_max: int
    frames: FrameWriter

    def __init__(self, *, deadline: float, **options: Any) -> None:
        self.deadline = deadline
        self.blocked = False
        self._frames_read = 0
        super().__init__(
            on_blocked=lambda _reason: self._set_blocked(state=True),
            on_unblocked=lambda: self._set_blocked(state=False),
            frame_writer=self._writer,
            **options,
        )

    def _writer(self, _: Any, transport: Any) -> Any:
        self.frames = FrameWriter(transport.write, self.limit_writes)
        return frame_writer(self, self.frames)

    def _set_blocked(self, *, state: bool) -> None:
        self.blocked = state

    @property
    def version(self) -> tuple[int, ...]:
        """The version of the server, such as (3, 10, 8); empty if unknown."""
        given = str(self.server_properties.get("version", ""))
        return tuple(int(number) for number in re.findall(r"\d+", given)[:3])

    def open_channel(self) -> QuietChannel:
        """Open another channel."""
        channel: Any = self.channel()
        return cast(QuietChannel, channel)

    def limit_writes(self) -> None:
        """Let every write end by the deadline."""
        if self.sock is not None:
            self.sock.settimeout(self.time_left())

    def detach_socket(self) -> None:
        """Close the socket in this process only: after a fork it is the parent's as well."""
        if self.connected and self.sock is not None:
            os.close(self.sock.detach())

    def time_left(self) -> float:
        """Return the seconds until the deadline.

        Raises:
            TimeoutError: it has passed.
        """
        left = self.deadline - monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def blocking_read(self, timeout: float | None = None) -> Any:
        """Read a frame; every wait for an answer of the server ends up here."""
        left = self.time_left()
        with self.transport.having_timeout(left if timeout is None else min(timeout, left)):
            frame = self.transport.read_frame()
        self._frames_read += 1
        try:
            return self.on_inbound_frame(frame)
        except Exception as error:
            if frame[0] != _HEADER_FRAME:
                raise
            return self.on_inbound_frame(_without_properties(frame, error))

    @property
    def progress(self) -> tuple[int, int]:
        """What has been read: whole frames, and bytes of the next one."""
        return self._frames_read, len(getattr(self.transport, "_read_buffer"))  # noqa: B009  private

    def read_available(self) -> None:
        """Read the frames that have arrived; half a frame is left for later."""
        # A link that is busy with deliveries always has the beginning of the next one.
        until = monotonic() + _MOMENT
        # Not with a time-out of 0: py-amqp would then spin until the other half arrives.
        with suppress(TimeoutError):
            while self._can_read() and monotonic() < until:
                self.blocking_read(_MOMENT)

    def _can_read(self) -> bool:
        sock = self.sock
        if sock is None or (isinstance(sock, ssl.SSLSocket) and sock.pending()):
            return True
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            return bool(selector.select(0))


def _without_properties(frame: Any, error: Exception) -> Any:
    """Return the header frame of a message whose properties py-amqp cannot decode.

    It would raise at each redelivery, and block every message behind this one: a time stamp after the
    year 9999 in a header is enough.
    """
    kind, channel, header = frame
    reason = {PREFIX + UNREADABLE: f"{type(error).__name__}: {error}"[:500]}
    (class_id, body_size) = unpack_from(">HxxQ", header)
    table = pack(">HxxQH", class_id, body_size, _HAS_HEADERS) + dumps("F", (reason,))
    return kind, channel, table


class Driver(pyamqp.Transport):
    """kombu's driver for RabbitMQ, with the connections of this module."""

    Connection = Connection
