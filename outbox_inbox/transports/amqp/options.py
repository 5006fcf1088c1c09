"""LOCATION and OPTIONS of a RabbitMQ transport, read once; every mistake is reported by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, Literal, cast, get_args
from urllib.parse import SplitResult, unquote, urlsplit

from django.views.decorators.debug import sensitive_variables

from outbox_inbox.conf import TransportSettings
from outbox_inbox.conf.section import checked_section
from outbox_inbox.transports.addresses import is_host

QueueType = Literal["quorum", "classic"]
Unroutable = Literal["refuse", "drop"]

_KEYS: Final = (
    *("USERNAME", "PASSWORD", "PREFIX", "QUEUE_PREFIX"),
    *("QUEUE_TYPE", "UNROUTABLE", "HEARTBEAT", "SSL"),
)
_SCHEMES: Final = ("amqp", "amqps")
_LONGEST: Final = timedelta(minutes=10)
_LONGEST_PREFIX: Final = 150
"""Bytes: AMQP has 255 for the name of an exchange or a queue, which ends with the label of a context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """LOCATION and OPTIONS of a transport; the key of a field is its name in capitals.

    Fields:
        location: the URL; not in ``repr``, since it may contain a password.
        username, password: in place of those in the URL; ``repr`` does not show the password.
        prefix: of the exchanges, before the label of the publishing context; default ``events``.
        queue_prefix: of the queues, before the label of the subscriber; default ``inbox``.
        queue_type: "quorum" (default; classic on a server before 3.8) or "classic".
        unroutable: a message that no queue is bound for is a failed attempt ("refuse", default) or
            counts as sent ("drop").
        heartbeat: the server drops a silent process after about twice this time; default 20 s.
        ssl: arguments of py-amqp's TLS such as ``ca_certs``, ``certfile`` and ``keyfile``, for
            ``amqps://``; the certificate and the name of the server are verified by default.
    """

    location: str = field(repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    prefix: str = "events"
    queue_prefix: str = "inbox"
    queue_type: QueueType = "quorum"
    unroutable: Unroutable = "refuse"
    heartbeat: timedelta = timedelta(seconds=20)
    ssl: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    @property
    def secure(self) -> bool:
        """Whether the URL asks for TLS."""
        return self.location.startswith("amqps:")

    @property
    def host(self) -> str:
        """The name of the server."""
        return urlsplit(self.location).hostname or "localhost"

    @property
    def shown(self) -> str:
        """The address of the server for logs, without user and password."""
        parts = urlsplit(self.location)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2] or 'localhost'}{parts.path}"


@sensitive_variables()
def read_options(settings: TransportSettings) -> Options:
    """Return the options, or raise `SettingsError` with all mistakes at once, one a line."""
    default = Options(location=settings.location)
    with checked_section("OPTIONS of the RabbitMQ transport", settings.options, _KEYS) as section:
        found = replace(
            default,
            username=section.text("USERNAME", "a name"),
            password=section.text("PASSWORD", "a text that is not empty", secret=True),
            prefix=section.text("PREFIX", "a name") or default.prefix,
            queue_prefix=section.text("QUEUE_PREFIX", "a name") or default.queue_prefix,
            queue_type=cast(
                QueueType, section.choice("QUEUE_TYPE", get_args(QueueType)) or "quorum"
            ),
            unroutable=cast(
                Unroutable, section.choice("UNROUTABLE", get_args(Unroutable)) or "refuse"
            ),
            heartbeat=section.duration("HEARTBEAT", default.heartbeat, _LONGEST),
            ssl=section.section("SSL").text_items(),
        )
        for name, value in (("PREFIX", found.prefix), ("QUEUE_PREFIX", found.queue_prefix)):
            if len(value.encode()) > _LONGEST_PREFIX:
                section.add_problem(name, f"a name of at most {_LONGEST_PREFIX} bytes")
        if found.heartbeat < timedelta(seconds=1):
            section.add_problem("HEARTBEAT", "a timedelta of at least a second")
        if problem := _location_problem(settings.location):
            section.problems.append(problem)
    return found


def _location_problem(location: str) -> str | None:
    """Return what is wrong with a URL, without any part of it but its scheme."""
    scheme, separator, _ = location.partition("://")
    if not separator or scheme not in _SCHEMES:
        # kombu would accept any broker it knows: its topic exchange on Redis loses messages.
        shown = "another scheme" if separator else "no scheme"
        return (
            f"The LOCATION of the RabbitMQ transport has {shown}; expected amqp:// or amqps://: "
            "it uses no other transport of kombu's"
        )
    parts = _plain_parts(location)
    if parts is None:
        return (
            "The LOCATION of the RabbitMQ transport is not a plain URL; expected "
            f"{scheme}://user:password@host:port/virtual-host, with special characters of the "
            "password percent-encoded (options go into OPTIONS, and a cluster needs one name)"
        )
    try:
        parts.port  # noqa: B018  raises
    except ValueError:
        return "The LOCATION of the RabbitMQ transport has a port that is not a number"
    if not is_host(unquote(parts.hostname or "localhost")):
        return "The LOCATION of the RabbitMQ transport has a host that is not a name"
    return None


def _plain_parts(location: str) -> SplitResult | None:
    """Return the parts of a URL; None: it has unencoded characters, or urllib refuses it."""
    try:
        parts = urlsplit(location)
    except ValueError:  # its text quotes the URL
        return None
    rest = location.partition("://")[2]
    return None if set(";?#") & set(rest) or "@" in parts.path else parts
