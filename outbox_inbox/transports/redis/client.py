"""Commands to a Redis server: one attempt each, a hard time-out, and replies as bytes.

redis-py's own client retries by itself, so an `XADD` whose reply was lost is written twice without a
warning, and its defaults change between versions. Here only its connections are used: commands go
out in one piece, and every reply comes back as the server sent it. `hiredis` parses the replies where
it is installed; redis-py falls back to its own parser in Python.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from django.views.decorators.debug import sensitive_variables

from outbox_inbox.conf import settings
from outbox_inbox.conf.clock import monotonic
from outbox_inbox.exceptions import SettingsError, TransportUnavailable
from outbox_inbox.queues.attempts import error_line
from outbox_inbox.queues.run import ends_worker

from ..addresses import is_host, tls_problems
from .options import Options

try:
    from redis.backoff import NoBackoff
    from redis.connection import ConnectionPool, parse_url
    from redis.exceptions import RedisError, ResponseError
    from redis.exceptions import TimeoutError as ReplyTimeout
    from redis.retry import Retry
    from redis.utils import HIREDIS_AVAILABLE
except ImportError as error:
    raise SettingsError(
        "redis:// needs the package redis, which is not installed: "
        "pip install 'outbox_inbox[redis]'"
    ) from error

T = TypeVar("T")

__all__ = ["HIREDIS_AVAILABLE", "Client", "ResponseError", "command", "error_text"]


def command(*parts: str | bytes | int) -> bytes:
    """Return a command as it goes over the wire."""
    packed = [b"*%d\r\n" % len(parts)]
    for part in parts:
        value = part if isinstance(part, bytes) else str(part).encode()
        packed.append(b"$%d\r\n%b\r\n" % (len(value), value))
    return b"".join(packed)


class Client:
    """Sends commands to one server and returns the replies.

    Each process and thread that uses it at the same time gets a connection of its own, which is
    opened at the first use. The time-outs in the URL apply; what it says about retries, protocol and
    decoding is ignored.
    """

    def __init__(self, location: str, options: Options | None = None) -> None:
        self._timeout = settings().publish_timeout.total_seconds()
        self._pool, self.address = _pool(location, options or Options(), self._timeout)
        self._tried = False

    def ask(self, *commands: bytes, wait: float = 0) -> list[Any]:
        """Send commands in one piece; return for each its reply or its `ResponseError`.

        Arguments:
            wait: seconds that the first reply may take longer, for a command that blocks.

        Raises:
            TransportUnavailable: a reply is missing. Which commands were carried out is unknown.
        """
        return self.ask_in_pieces([b"".join(commands)], len(commands), wait=wait)

    def ask_in_pieces(self, pieces: Iterable[bytes], count: int, *, wait: float = 0) -> list[Any]:
        """Send ``count`` commands that come in any number of pieces; otherwise like `ask`."""
        with self._connection() as connection:
            deadline = monotonic() + self._timeout + wait
            connection.send_packed_command(_until(deadline, pieces), check_health=False)
            if wait and not connection.can_read(wait + self._timeout):
                raise ReplyTimeout("Timeout reading from socket")
            # A reply that came late is there, and would only be asked for again.
            return [_reply(connection) for _ in _until(deadline, range(count))]

    def ask_strictly(self, *commands: bytes) -> list[Any]:
        """Send commands in one piece; return their replies, of which none is an error."""
        replies = self.ask(*commands)
        self.check(replies)
        return replies

    def check(self, replies: Sequence[Any], place: str = "") -> None:
        """Raise `TransportUnavailable` for the first error among replies.

        Every error of a server (out of memory, read-only, not allowed, a key of another type) is
        about the server, not about one message: the next message would meet it as well.

        Arguments:
            place: the key that all commands were about, which the server's own text does not name.
        """
        for reply in replies:
            if isinstance(reply, ResponseError):
                about = f"{place}: " if place else ""
                raise TransportUnavailable(
                    f"Redis at {self.address} refuses: {about}{error_text(reply)}"
                )

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        connection = self._connect()
        try:
            try:
                yield connection
            except BaseException:
                # A reply that is still to come would be read as that of the next command.
                connection.disconnect()
                raise
            finally:
                self._pool.release(connection)
        except (RedisError, OSError) as error:
            raise self._outage(error) from error

    @sensitive_variables()  # the drivers have the password in variables, which error pages show
    def _connect(self) -> Any:
        if not self._tried:
            # Before a socket is opened, which redis-py would leave open; and it names the option.
            for problem in self.local_problems():
                raise TransportUnavailable(f"Redis at {self.address} cannot be reached: {problem}")
            self._tried = True
        try:
            return self._pool.get_connection()
        except Exception as error:
            # No message is sent yet, so none is the cause, whatever it is. Not all of it is an error of
            # redis-py: a host that is not a name is a UnicodeError, a missing file a TypeError.
            if ends_worker(error):
                raise
            raise self._outage(error) from error

    def _outage(self, error: Exception) -> TransportUnavailable:
        why = error_text(error) if isinstance(error, RedisError) else error_line(error)
        return TransportUnavailable(f"Redis at {self.address} cannot be reached: {why}")

    def local_problems(self) -> Iterator[str]:
        """Yield what is wrong with the options of TLS, as `Transport.local_problems`."""
        given = self._pool.connection_kwargs
        unconnected = self._pool.connection_class(**given)
        wrap = getattr(unconnected, "_wrap_socket_with_ssl", None)
        if wrap is None or any(each.startswith("ssl_validate_ocsp") for each in given):
            return  # no TLS; or redis-py would ask the server about its certificate
        names = ("ssl_keyfile", "ssl_certfile", "ssl_ca_certs", "ssl_ca_path")
        yield from tls_problems(wrap, {name: given.get(name) for name in names})


def _pool(location: str, given: Options, timeout: float) -> tuple[Any, str]:
    user = {"username": given.username, "password": given.password}
    try:
        options = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            **_parsed(location),
            **{name: value for name, value in user.items() if value is not None},
            # A retry of redis-py's would append an entry twice.
            "retry": Retry(NoBackoff(), 0),
            "retry_on_timeout": False,
            "retry_on_error": [],
            "protocol": 2,
            "decode_responses": False,
        }
        pool = ConnectionPool(**options)
        pool.make_connection()  # a wrong option fails here, and not at the first use
        pool.reset()
    except (RedisError, ValueError, TypeError):
        # Without its text: it may quote the URL, and so the password.
        raise SettingsError(
            "the URL of a Redis transport cannot be read (it is not shown, since it may contain a "
            "password); expected redis://[[user]:password@]host[:port][/database][?option=value], "
            "with special characters of the password percent-encoded"
        ) from None
    if "path" not in options and not is_host(options.get("host", "localhost")):
        raise SettingsError(
            "the URL of a Redis transport has a host that is not a name (the URL is not shown, since it "
            "may contain a password)"
        )
    address = (
        options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    )
    return pool, f"{address}/{options.get('db', 0)}"


def _parsed(location: str) -> dict[str, Any]:
    parts = urlsplit(location)
    # Of a password with one of these, redis-py would take the beginning for a port.
    if parts.fragment or (parts.scheme != "unix" and "@" in parts.path):
        raise ValueError("the URL has unencoded characters")
    found: dict[str, Any] = parse_url(location)  # type: ignore[no-untyped-call]  # it has no types
    return found


def _until(deadline: float, parts: Iterable[T]) -> Iterator[T]:
    """Yield parts, but none after the deadline.

    The time-out of the socket is that of one read: a server that answers bit by bit would keep the
    relay's transaction open for as many time-outs as there are replies.
    """
    for part in parts:
        if monotonic() > deadline:
            raise ReplyTimeout("Timeout")
        yield part


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error


def error_text(error: RedisError) -> str:
    """Return the text of an error with its code, which redis-py removes."""
    code = getattr(error, "status_code", None)
    text = str(error) or type(error).__name__
    return f"{code} {text}" if code and not text.startswith(code) else text
