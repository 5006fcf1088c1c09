"""A connection of this process, opened when it is needed and given up when anything goes wrong."""

import os
import ssl
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import Any, Final

import kombu
from amqp import AMQPError

from outbox_inbox.exceptions import OutboxInboxError, TransportUnavailable

from .connection import Connection, Driver
from .options import Options

_SILENCES: Final = 2  # heartbeats that may be missed before the server drops a connection
_FAILURES: Final = (OSError, AMQPError)


class Link:
    """One connection of this process, opened when it is needed and again after it was lost.

    Arguments:
        purpose: what it is for; RabbitMQ's management pages show it.
    """

    def __init__(self, options: Options, purpose: str) -> None:
        self._options = options
        self._purpose = purpose
        self._connection: Connection | None = None
        self._finalizer: Callable[[], object] = _nothing
        self._process = 0
        self._used = -inf

    @contextmanager
    def within(self, seconds: float) -> Iterator[Connection]:
        """Yield the open connection; give it up if the block fails or takes too long.

        The connection is another object after it was lost: what was declared on it, and the
        channels opened on it, are gone then.

        Raises:
            TransportUnavailable: the server cannot be reached, did not answer in time, or said no.
        """
        try:
            connection = self._usable(monotonic() + seconds)
            yield connection
            self._used = monotonic()
        except OutboxInboxError:
            self.drop()
            raise
        except _FAILURES as error:
            why = self._describe(error, seconds)
            self.drop()
            raise TransportUnavailable(f"RabbitMQ at {self._options.shown}: {why}") from error
        except BaseException:
            # Half an answer may be in it.
            self.drop()
            raise

    def holds(self, connection: Connection | None) -> bool:
        """Tell whether this connection is still the one that is used."""
        return connection is not None and connection is self._connection

    def drop(self) -> None:
        """Close the connection without asking the server, who may not answer."""
        self._finalizer()
        self._connection, self._finalizer = None, _nothing

    def _usable(self, deadline: float) -> Connection:
        connection = self._connection
        if connection is not None:
            if self._process == os.getpid() and self._lives(connection, deadline):
                return connection
            self.drop()
        return self._open(deadline)

    def _lives(self, connection: Connection, deadline: float) -> bool:
        """Find out whether the server has hung up, or must have by now; nothing was sent yet."""
        silence = monotonic() - self._used
        if silence > _SILENCES * self._options.heartbeat.total_seconds():
            return False
        connection.deadline = deadline
        try:
            connection.read_what_is_there()
            connection.limit_writes()
        except _FAILURES:
            return False
        return True

    def _open(self, deadline: float) -> Connection:
        left = max(deadline - monotonic(), 0.001)
        options = self._options
        client = kombu.Connection(
            options.location,
            transport=Driver,
            ssl=_tls(options),
            connect_timeout=left,
            heartbeat=options.heartbeat.total_seconds(),
            transport_options={
                "deadline": deadline,
                "read_timeout": left,
                "write_timeout": left,
                "client_properties": {"connection_name": f"outbox_inbox {self._purpose}"},
            },
        )
        # Not client.connect(), which tries several times.
        connection: Connection = client.transport.establish_connection()
        self._process = os.getpid()
        self._connection = connection
        # Also when this link is forgotten: an open socket is a leak.
        self._finalizer = weakref.finalize(self, _close, connection, self._process)
        connection.limit_writes()
        return connection

    def _describe(self, error: BaseException, seconds: float) -> str:
        if self._connection is not None and self._connection.blocked:
            return "it blocks all publishers, since it has run out of memory or disk"
        if isinstance(error, TimeoutError):
            return f"no answer within {seconds:g} s"
        return str(error) or type(error).__name__


def _nothing() -> None:
    """Close nothing."""


def _close(connection: Connection, process: int) -> None:
    if process == os.getpid():
        connection.collect()
    else:
        connection.leave()


def _tls(options: Options) -> dict[str, Any] | bool:
    if not options.secure:
        return False
    # py-amqp verifies the name of the server only when it is told to.
    return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": options.host, **options.ssl}
