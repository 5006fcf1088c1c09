"""The RabbitMQ of one test: exchanges and queues of its own, and a wire that can be cut."""

import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import kombu
from amqp.basic_message import Message
from amqp.serialization import dumps

from outbox_inbox.transports import transport

PATIENCE = 20  # seconds


class Broker:
    """A virtual host as another program than a context sees it."""

    def __init__(self, url: str) -> None:
        self.url = url
        unique = uuid4().hex[:8]
        self.options = {"PREFIX": f"test-{unique}", "QUEUE_PREFIX": f"test-{unique}-inbox"}
        self.connection = kombu.Connection(url)
        self.channel = self.connection.channel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        channel = self.connection.channel()
        for label in ("shop", "depot", "farm", "market"):
            channel.queue_delete(self.queue(label))
            channel.exchange_delete(self.exchange(label))
        self.connection.release()

    def setting(self, url: str = "", **options: Any) -> dict[str, Any]:
        """Return OUTBOX_INBOX for this broker, with further options of the transport."""
        entry = {"LOCATION": url or self.url, "OPTIONS": {**self.options, **options}}
        return {"TRANSPORTS": {"default": entry}}

    def exchange(self, label: str = "shop") -> str:
        """Return the name of an exchange."""
        return f"{self.options['PREFIX']}.{label}"

    def queue(self, label: str = "depot") -> str:
        """Return the name of a queue."""
        return f"{self.options['QUEUE_PREFIX']}.{label}"

    def ready(self, label: str = "depot") -> int:
        """Return how many messages wait in a queue."""
        return int(self.channel.queue_declare(self.queue(label), passive=True).message_count)

    def unbind(self, pattern: str = "shop.sold.*") -> None:
        """Take a binding away from the depot's queue."""
        self.channel.queue_unbind(self.queue(), self.exchange(), pattern)

    def send(self, body: bytes, routing_key: Any = "shop.sold.v1", **properties: Any) -> None:
        """Publish a message as any stranger could, and wait until it has arrived."""
        message = Message(body, **properties)
        self.channel.basic_publish_confirm(message, self.exchange(), routing_key)

    def take(self, label: str = "depot") -> list[Any]:
        """Take all messages out of a queue, as they are on the wire."""
        found: list[Any] = []
        wanted = self.ready(label)
        channel = self.connection.channel()
        channel.auto_decode = False
        channel.basic_consume(self.queue(label), no_ack=True, callback=found.append)
        while len(found) < wanted:
            self.connection.drain_events(timeout=PATIENCE)
        channel.close()
        return found


class Wire:
    """A proxy to the server that a test can cut, stop, and speak through.

    Arguments:
        certificate: path of a certificate with its key, to speak TLS with the clients.

    Attributes:
        url: the server's URL, through this proxy.
        connections: how many were opened.
        muted: whether what the server says is swallowed.
        stopped: whether nothing is carried in any direction.
        sent: what the clients have said.
    """

    def __init__(self, url: str, certificate: str = "") -> None:
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        if self._tls is not None:
            self._tls.load_cert_chain(certificate)
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 5672)
        self._listener = socket.create_server(("127.0.0.1", 0))
        login = parts.netloc.rpartition("@")[0]
        port = self._listener.getsockname()[1]
        self.url = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{port}"))
        self.connections = 0
        self.muted = self.stopped = False
        self.sent = b""
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run)
        self._ended = threading.Event()
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Cut all connections."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for each in (end for pair in pairs for end in pair):
            with suppress(OSError):
                each.shutdown(
                    socket.SHUT_RDWR
                )  # closing alone waits for a thread that reads from it
            each.close()

    def say(self, frame: bytes) -> None:
        """Let the server seem to say something on every connection."""
        with self._lock:
            for client, _ in self._pairs:
                client.sendall(frame)

    def _run(self) -> None:
        while not self._ended.is_set():
            with self._lock:
                pairs = list(self._pairs)
            if self.stopped:
                pairs = []
            ends, backs = dict(pairs), {server: client for client, server in pairs}
            for ready in _readable([self._listener, *ends, *backs]):
                if ready is self._listener:
                    self._accept()
                elif ready in ends:
                    self._carry(ready, ends[ready], there=True)
                else:
                    self._carry(ready, backs[ready], there=False)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self._tls is not None:
            try:
                client = self._tls.wrap_socket(client, server_side=True)
            except OSError:  # the client does not like our certificate
                client.close()
                return
        server = socket.create_connection(self._target)
        self.connections += 1
        with self._lock:
            self._pairs.append((client, server))

    def _carry(self, source: socket.socket, target: socket.socket, *, there: bool) -> None:
        with suppress(OSError):
            if data := _all_of(source):
                if there:
                    self.sent += data
                if there or not self.muted:
                    target.sendall(data)
                return
        with self._lock:
            self._pairs = [pair for pair in self._pairs if source not in pair]
        source.close()
        target.close()


def _all_of(source: socket.socket) -> bytes:
    data = source.recv(65_536)
    while isinstance(source, ssl.SSLSocket) and source.pending():
        data += source.recv(65_536)
    return data


def _readable(sockets: list[socket.socket]) -> Iterable[socket.socket]:
    try:
        return select.select(sockets, [], [], 0.01)[0]
    except (OSError, ValueError):
        return ()  # one was closed meanwhile


def method(channel: int, signature: tuple[int, int], kinds: str = "", *values: Any) -> bytes:
    """Return a frame of AMQP 0-9-1 with a method in it."""
    payload = struct.pack(">HH", *signature) + dumps(kinds, values)
    return struct.pack(">BHI", 1, channel, len(payload)) + payload + b"\xce"


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """Return the result of something that must not take longer."""
    began = time.monotonic()
    try:
        return work()
    finally:
        took = time.monotonic() - began
        assert took < seconds, f"it took {took:.1f} s"


def bodies(messages):
    """Return the numbers in messages that were received, in order."""
    return [int(each.data.split(b":")[1].split(b",")[0]) for each in messages]


def received(depot, limit):
    """Receive once."""
    return transport("default").receive(depot, limit)
