"""The connections of this process: opened at the first use, dropped after any failure.

A connection that failed in the middle of a call may still deliver half an answer, and one that was
inherited by a fork belongs to the parent process as well. Neither is ever used again.
"""

import os
import ssl
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import inf
from typing import Any, Final

import kombu
from amqp import AMQPError
from amqp.transport import SSLTransport
from django.views.decorators.debug import sensitive_variables

from outbox_inbox.conf import settings
from outbox_inbox.conf.clock import monotonic
from outbox_inbox.exceptions import OutboxInboxError, TransportUnavailable
from outbox_inbox.queues.attempts import error_line
from outbox_inbox.queues.run import ends_worker
from outbox_inbox.transports.addresses import tls_problems

from .connection import Connection, Driver
from .options import Options

_SILENCES: Final = 2  # heartbeats that may be missed before the server drops a connection
_FAILURES: Final = (OSError, AMQPError)


class Reconnector:
    """One connection of this process, opened at the first use and again after it was lost.

    RabbitMQ's management pages show its purpose.
    """

    def __init__(self, options: Options, purpose: str) -> None:
        self._options = options
        self._purpose = purpose
        self._connection: Connection | None = None
        self._finalizer: Callable[[], object] = _nothing
        self._process = 0
        self._used = -inf

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Yield the open connection; drop it if the block fails or exceeds PUBLISH_TIMEOUT.

        After a loss the connection is a new object, without the channels of the old one.

        Raises:
            TransportUnavailable: the server cannot be reached, did not answer in time, or refused.
        """
        timeout = settings().publish_timeout.total_seconds()
        try:
            connection = self._usable_connection(monotonic() + timeout)
            yield connection
            self._used = monotonic()
        except OutboxInboxError:
            self.drop()
            raise
        except _FAILURES as error:
            why = self._describe(error, timeout)
            self.drop()
            raise TransportUnavailable(f"RabbitMQ at {self._options.shown}: {why}") from error
        except BaseException:
            # Half an answer may be in it, which the next call would read as its own.
            self.drop()
            raise

    def is_current(self, connection: Connection | None) -> bool:
        """Return whether this connection is still in use."""
        return connection is not None and connection is self._connection

    def drop(self) -> None:
        """Close the connection without asking the server, which may not answer."""
        self._finalizer()
        self._connection, self._finalizer = None, _nothing

    def _usable_connection(self, deadline: float) -> Connection:
        connection = self._connection
        if connection is not None:
            if self._process == os.getpid() and self._is_alive(connection, deadline):
                return connection
            self.drop()
        try:
            return self._open(deadline)
        except (*_FAILURES, OutboxInboxError):
            raise
        except Exception as error:
            # No message is sent yet, so none is the cause, whatever it is. Not all of it is an error of
            # py-amqp: a host that is not a name is a UnicodeError, an unknown option a TypeError.
            if ends_worker(error):
                raise
            raise TransportUnavailable(
                f"RabbitMQ at {self._options.shown}: {error_line(error)}"
            ) from error

    def _is_alive(self, connection: Connection, deadline: float) -> bool:
        """Return whether the server has not closed the connection; nothing was sent yet."""
        silence = monotonic() - self._used
        if silence > _SILENCES * self._options.heartbeat.total_seconds():
            return False
        connection.deadline = deadline
        try:
            connection.read_available()
            connection.limit_writes()
        except _FAILURES:
            return False
        return True

    @sensitive_variables()  # the drivers have the password in variables, which error pages show
    def _open(self, deadline: float) -> Connection:
        left = max(deadline - monotonic(), 0.001)
        options = self._options
        # Before a socket is opened, which py-amqp would leave open; and it names the option.
        for problem in local_problems(options):
            raise TransportUnavailable(f"RabbitMQ at {options.shown}: {problem}")
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
        # After the URL, which kombu prefers to arguments.
        client.userid = options.username or client.userid
        client.password = options.password or client.password
        # Not client.connect(), which retries.
        connection: Connection = client.transport.establish_connection()
        self._process = os.getpid()
        self._connection = connection
        # Closed also when this object is garbage: an open socket is a leak.
        self._finalizer = weakref.finalize(self, _close, connection, self._process)
        connection.limit_writes()
        return connection

    def _describe(self, error: BaseException, timeout: float) -> str:
        if self._connection is not None and self._connection.blocked:
            return "it blocks all publishers, because it has run out of memory or disk"
        if isinstance(error, TimeoutError):
            return f"no answer within {timeout:g} s"
        return str(error) or type(error).__name__


def _nothing() -> None:
    pass


def _close(connection: Connection, process: int) -> None:
    if process == os.getpid():
        connection.collect()
    else:
        connection.detach_socket()


def _tls(options: Options) -> dict[str, Any] | bool:
    if not options.secure:
        return False
    # py-amqp verifies the name of the server only with `server_hostname`.
    return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": options.host, **options.ssl}


def local_problems(options: Options) -> Iterator[str]:
    """Yield what is wrong with the options of TLS, as `Transport.local_problems`."""
    given = _tls(options)
    if isinstance(given, dict):
        wrap = partial(getattr(SSLTransport(options.host), "_wrap_socket"), **given)  # noqa: B009
        names = ("ca_certs", "certfile", "keyfile")
        yield from tls_problems(wrap, {f"SSL[{name!r}]": given.get(name) for name in names})
