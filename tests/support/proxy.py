"""A wire that a test can cut or slow down, between a client and a server on this machine."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

TICK = 0.02  # seconds between two looks at what the test wants
QUIET = 0.1  # seconds without a byte, after which a request is taken for complete


class Proxy:
    """Forwards TCP connections to a port of this machine, until a test wants otherwise.

    Arguments:
        target: the port.
        rate: bytes a second that each connection carries; default: as many as come.

    Attributes:
        port: where it listens, on the loopback interface.
        lost: how many times an answer was swallowed.
    """

    def __init__(self, target: int, rate: int | None = None) -> None:
        self.target = target
        self.rate = rate
        self.lost = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._refusing = threading.Event()
        self._hanging = threading.Event()
        self._marker = b""
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all connections and the proxy; harmless when repeated."""
        self._closed.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    @contextmanager
    def cut(self) -> Iterator[None]:
        """End all connections, and every new one at once, within the block."""
        self._refusing.set()
        try:
            for thread in self._threads[1:]:
                thread.join()
            yield
        finally:
            self._refusing.clear()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Accept connections and bytes, and carry nothing in either direction, within the block."""
        self._hanging.set()
        try:
            yield
        finally:
            self._hanging.clear()

    @contextmanager
    def losing_answers(self, marker: bytes) -> Iterator[None]:
        """Lose the answers to what has the marker in it, after it arrived, within the block.

        The request is carried to the server, to its last byte; what the server answers from then
        on is swallowed, and the connection ends. Everything before goes through, such as a
        handshake; so does what other connections ask for.
        """
        self._marker = marker
        try:
            yield
        finally:
            self._marker = b""

    def _accept(self) -> None:
        while not self._closed.is_set():
            if not select.select([self._listener], [], [], TICK)[0]:
                continue
            client, _ = self._listener.accept()
            thread = threading.Thread(target=self._connect, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _connect(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if self._refusing.is_set():
                return
            with socket.create_connection(("127.0.0.1", self.target)) as server:
                self._carry(_Link(client, server, self.rate))

    def _carry(self, link: "_Link") -> None:
        """Forward both ways until one side ends, or the test does."""
        while True:
            ready = link.ready()
            # What the test wants is only asked after something has come: it may be about that.
            if self._closed.is_set() or self._refusing.is_set():
                return
            if self._hanging.is_set():
                self._closed.wait(TICK)
            elif not all(link.carry(side, self._marker) for side in ready):
                return
            elif link.answer_is_lost:
                self.lost += 1
                return


class _Link:
    """One connection, to both sides."""

    def __init__(self, client: socket.socket, server: socket.socket, rate: int | None) -> None:
        self.client = client
        self.server = server
        self._rate = rate
        self._chunk = int(rate * TICK) if rate else 65_536
        self._losing = False
        self._tail = b""
        self._quiet = 0.0

    @property
    def answer_is_lost(self) -> bool:
        """Whether a request with the marker has arrived, to its last byte."""
        return self._losing and self._quiet >= QUIET

    def ready(self) -> list[socket.socket]:
        """Return the sides from which something has come within a tick."""
        sides = select.select([self.client, self.server], [], [], TICK)[0]
        self._quiet = 0.0 if sides else self._quiet + TICK
        return sides

    def carry(self, side: socket.socket, marker: bytes) -> bool:
        """Carry what has come from a side to the other; false: it has ended."""
        chunk = side.recv(self._chunk)
        if self._rate:
            threading.Event().wait(len(chunk) / self._rate)
        if side is self.server:
            if not self._losing:
                self.client.sendall(chunk)
            return bool(chunk)
        # A marker may lie across two chunks.
        seen = self._tail[-len(marker) :] + chunk
        self._tail = seen if marker else b""
        self._losing = self._losing or bool(marker and marker in seen)
        self.server.sendall(chunk)
        return bool(chunk)
