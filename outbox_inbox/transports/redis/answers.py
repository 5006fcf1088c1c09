"""Reads the answers of a server: as redis-py does it without its C extension, in a third of the time.

An entry of a stream has twenty parts, and a batch has ten thousand; taking them apart costs a
receiver more than anything else. So they are read through a buffered file of the standard library.
"""

from contextlib import suppress
from selectors import EVENT_READ, DefaultSelector
from typing import Any

from redis._parsers import _RESP2Parser
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import InvalidResponse

_BUFFER = 65_536


class Answers(_RESP2Parser):
    """The ``parser_class`` of a connection that speaks RESP2; nothing is decoded."""

    _sock: Any = None
    _file: Any = None

    def on_connect(self, connection: Any) -> None:
        """Begin with a new socket."""
        self._sock = connection._sock  # noqa: SLF001  where every parser of redis-py gets it
        self._file = self._sock.makefile("rb", buffering=_BUFFER)

    def on_disconnect(self) -> None:
        """Let go of the socket, which is closed after this."""
        found, self._file, self._sock = self._file, None, None
        if found is not None:
            with suppress(OSError):
                found.close()

    def can_read(self, timeout: float = 0) -> bool:
        """Wait until there is something to be read, or the end; between two answers only."""
        if getattr(self._sock, "pending", int)():  # TLS has read it from the socket already
            return True
        with DefaultSelector() as selector:
            selector.register(self._sock, EVENT_READ)
            return bool(selector.select(timeout))

    def read_response(self, disable_decoding: Any = None, timeout: Any = None) -> Any:
        """Return one answer; an error of the server is returned, one of the connection raised."""
        return self._read(self._file)

    def _read(self, file: Any) -> Any:
        line = file.readline()
        if line[-2:] != b"\r\n":
            raise Disconnected("Connection closed by server")
        kind = line[0]
        if kind == _BULK:
            return _bulk(file, int(line[1:]))
        if kind == _ARRAY:
            size = int(line[1:])
            read = self._read
            return None if size < 0 else [read(file) for _ in range(size)]
        if kind == _NUMBER:
            return int(line[1:])
        if kind == _STATUS:
            return line[1:-2]
        if kind != _ERROR:
            raise InvalidResponse(f"Protocol Error: {line!r}")
        text = line[1:-2].decode("utf-8", "replace")
        error = self.parse_error(text)  # type: ignore[no-untyped-call]  # redis-py says no types
        if isinstance(error, Disconnected):
            raise error
        return error


def _bulk(file: Any, size: int) -> bytes | None:
    if size < 0:
        return None
    found: bytes = file.read(size + 2)
    if len(found) < size + 2:
        raise Disconnected("Connection closed by server")
    return found[:-2]


_BULK, _ARRAY, _NUMBER, _STATUS, _ERROR = b"$*:+-"
