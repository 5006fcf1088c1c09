"""What a project may say about its RabbitMQ, read once and refused by name where it is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, Literal, cast, get_args
from urllib.parse import urlsplit

from outbox_inbox.conf import TransportSettings
from outbox_inbox.conf.section import Section
from outbox_inbox.exceptions import SettingsError

QueueType = Literal["quorum", "classic"]
Unroutable = Literal["refuse", "drop"]

_KEYS: Final = ("PREFIX", "QUEUE_PREFIX", "QUEUE_TYPE", "UNROUTABLE", "HEARTBEAT", "SSL")
_SCHEMES: Final = ("amqp", "amqps")
_LONGEST: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """LOCATION and OPTIONS of a transport; the key of a field is its name in capitals.

    Fields:
        location: the URL; hidden in ``repr``, since it may hold a password.
        prefix: of the exchanges, before the label of the publishing context; default ``events``.
        queue_prefix: of the queues, before the label of the subscriber; default ``inbox``.
        queue_type: "quorum" (default; classic on a server before 3.8) or "classic".
        unroutable: what becomes of a message that no queue wants: "refuse" (default) is a failed
            attempt, "drop" counts as sent.
        heartbeat: after about twice this time the server drops a silent process; default 20 s.
        ssl: arguments of py-amqp's TLS such as ``ca_certs``, ``certfile`` and ``keyfile``, for
            ``amqps://``; the server's certificate and name are verified unless they say otherwise.
    """

    location: str = field(repr=False)
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
        """The server's address, fit for logs: without user and password."""
        parts = urlsplit(self.location)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2] or 'localhost'}{parts.path}"


def read(settings: TransportSettings) -> Options:
    """Return the options of a transport.

    Raises:
        SettingsError: with all mistakes at once, one a line.
    """
    problems: list[str] = []
    section = Section("OPTIONS of the RabbitMQ transport", settings.options, problems, _KEYS)
    default = Options(location=settings.location)
    choose = section.choice
    found = replace(
        default,
        prefix=section.text("PREFIX", "a name") or default.prefix,
        queue_prefix=section.text("QUEUE_PREFIX", "a name") or default.queue_prefix,
        queue_type=cast(QueueType, choose("QUEUE_TYPE", get_args(QueueType)) or "quorum"),
        unroutable=cast(Unroutable, choose("UNROUTABLE", get_args(Unroutable)) or "refuse"),
        heartbeat=section.duration("HEARTBEAT", default.heartbeat, _LONGEST),
        ssl=_named(section.section("SSL")),
    )
    if found.heartbeat < timedelta(seconds=1):
        section.add_problem("HEARTBEAT", "a timedelta of at least a second")
    if problem := _of_location(settings.location):
        problems.append(problem)
    if problems:
        raise SettingsError("\n".join(problems))
    return found


def _named(section: Section) -> Mapping[str, Any]:
    return MappingProxyType({name: section.values[name] for name in section.names()})


def _of_location(location: str) -> str | None:
    """Return what is wrong with a URL, without repeating any of it but its scheme."""
    scheme, separator, rest = location.partition("://")
    if not separator or scheme not in _SCHEMES:
        # kombu would take any broker it knows: its topic exchange on Redis loses messages.
        shown = f"the scheme {scheme!r}" if separator else "no scheme"
        return (
            f"The LOCATION of the RabbitMQ transport has {shown}; expected amqp:// or amqps://: "
            "it speaks AMQP to RabbitMQ and uses no other transport of kombu's"
        )
    if set(";?#") & set(rest) or "@" in urlsplit(location).path:
        return (
            "The LOCATION of the RabbitMQ transport is no plain URL; expected "
            f"{scheme}://user:password@host:port/virtual-host, with special characters of the "
            "password percent-encoded (settings go into OPTIONS, and a cluster stands behind one "
            "name)"
        )
    try:
        urlsplit(location).port  # noqa: B018  raises
    except ValueError:
        return "The LOCATION of the RabbitMQ transport has a port that is no number"
    return None
