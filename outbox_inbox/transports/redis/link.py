"""The connection to a Redis server: one attempt, a hard time-out, and nothing decoded.

redis-py's own client retries by itself, so that an `XADD` whose answer was lost is written twice
without a word, and its defaults change between versions. Here its connections are used and its
client is not: commands go out in one piece, and each answer comes back as the server gave it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, TypeVar

from outbox_inbox.conf import settings
from outbox_inbox.exceptions import SettingsError, TransportUnavailable

try:
    from redis.backoff import NoBackoff
    from redis.connection import ConnectionPool, parse_url
    from redis.exceptions import RedisError, ResponseError
    from redis.exceptions import TimeoutError as NoAnswer
    from redis.retry import Retry

    from .answers import Answers
except ImportError as error:
    raise SettingsError(
        "redis:// needs the package redis, which is not installed: "
        "pip install 'outbox_inbox[redis]'"
    ) from error

T = TypeVar("T")

__all__ = ["Link", "ResponseError", "command"]


def command(*parts: str | bytes | int) -> bytes:
    """Return a command as it goes over the wire."""
    packed = [b"*%d\r\n" % len(parts)]
    for part in parts:
        value = part if isinstance(part, bytes) else str(part).encode()
        packed.append(b"$%d\r\n%b\r\n" % (len(value), value))
    return b"".join(packed)


class Link:
    """Sends commands to one server and returns their answers.

    A connection is opened when it is first needed, in each process its own.

    Arguments:
        location: a URL as redis-py reads it; what it says about time-outs holds, what it says
            about retries, protocol and decoding does not.

    Raises:
        SettingsError: the URL cannot be read.
    """

    def __init__(self, location: str) -> None:
        self._timeout = settings().publish_timeout.total_seconds()
        self._pool, self.place = _pool(location, self._timeout)

    def ask(self, *commands: bytes, wait: float = 0) -> list[Any]:
        """Send commands in one piece; return the answer of each, or the `ResponseError` it got.

        Arguments:
            commands: as `command` makes them.
            wait: seconds that the first answer may take longer, for a command that blocks.

        Raises:
            TransportUnavailable: there is no answer. Which commands were carried out is unknown.
        """
        return self.send([b"".join(commands)], len(commands), wait=wait)

    def send(self, pieces: Iterable[bytes], count: int, *, wait: float = 0) -> list[Any]:
        """Send so many commands, in any number of pieces; otherwise like `ask`."""
        with self._connection() as connection:
            deadline = monotonic() + self._timeout + wait
            connection.send_packed_command(_until(deadline, pieces), check_health=False)
            if wait and not connection.can_read(wait + self._timeout):
                raise NoAnswer("Timeout reading from socket")
            return list(_until(deadline, (_answer(connection) for _ in range(count))))

    def get(self, *commands: bytes) -> list[Any]:
        """Send commands in one piece; return their answers.

        Raises:
            TransportUnavailable: there is no answer, or one of them is a refusal.
        """
        answers = self.ask(*commands)
        self.check(answers)
        return answers

    def check(self, answers: Sequence[Any]) -> None:
        """Raise the first refusal among answers.

        Whatever a server refuses (out of memory, read-only, not allowed, another type of key), it
        says of itself and not of the message.

        Raises:
            TransportUnavailable: there is one.
        """
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise TransportUnavailable(f"Redis at {self.place} refuses: {_text(answer)}")

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """Lend a connection; one on which anything went wrong is closed, answers and all."""
        try:
            connection = self._pool.get_connection()
            try:
                yield connection
            except BaseException:
                connection.disconnect()
                raise
            finally:
                self._pool.release(connection)
        except RedisError as error:
            raise TransportUnavailable(
                f"Redis at {self.place} cannot be reached: {_text(error)}"
            ) from error


def _pool(location: str, timeout: float) -> tuple[Any, str]:
    """Return the connections of a URL, and what to call the server in an error."""
    try:
        given = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            **parse_url(location),  # type: ignore[no-untyped-call]  # redis-py says no types
            "retry": Retry(NoBackoff(), 0),
            "retry_on_timeout": False,
            "retry_on_error": [],
            "protocol": 2,
            "parser_class": Answers,
            "decode_responses": False,
        }
        pool = ConnectionPool(**given)
        pool.make_connection()  # a wrong option is noticed here, and not at the first use
        pool.reset()
    except (RedisError, ValueError, TypeError):
        # Not its text: that of a URL which cannot be read may quote the password.
        raise SettingsError(
            "the URL of a Redis transport cannot be read (it is not shown, since it may hold a "
            "password); expected redis://[[user]:password@]host[:port][/database][?option=value]"
        ) from None
    address = given.get("path") or f"{given.get('host', 'localhost')}:{given.get('port', 6379)}"
    return pool, f"{address}/{given.get('db', 0)}"


def _until(deadline: float, parts: Iterable[T]) -> Iterator[T]:
    """Yield parts, but none after the deadline; the time-out of the socket is that of each one."""
    for part in parts:
        if monotonic() > deadline:
            raise NoAnswer("Timeout")
        yield part


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error


def _text(error: RedisError) -> str:
    """Return what the server said, with the code that redis-py takes off."""
    code = getattr(error, "status_code", None)
    text = str(error) or type(error).__name__
    return f"{code} {text}" if code and not text.startswith(code) else text
