"""The setting OUTBOX_INBOX, read into one frozen typed object.

A misspelt key or a wrong value raises `SettingsError` at the first use, with all mistakes at once:
ignored, it would leave a default in force without a warning.
"""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from types import MappingProxyType
from typing import Any, ClassVar, Literal, cast, get_args

from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.db import connections
from django.views.decorators.debug import sensitive_variables

from .backoff import Backoff as Backoff
from .keys import Signing, Verifying, read_signing, read_verifying
from .section import Section, checked_section
from .times import MOST

WakeUp = Literal["celery", "notify"]
Source = Literal["outbox", "stream"]

SCHEMES: Mapping[str, str] = {
    "amqp": "outbox_inbox.transports.amqp.AmqpTransport",
    "amqps": "outbox_inbox.transports.amqp.AmqpTransport",
    "local": "outbox_inbox.transports.local.LocalTransport",
    "memory": "outbox_inbox.transports.memory.MemoryTransport",
    "redis": "outbox_inbox.transports.redis.RedisTransport",
    "rediss": "outbox_inbox.transports.redis.RedisTransport",
}
"""URL scheme of a transport -> dotted path of its class."""

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,20}")
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    """One entry of TRANSPORTS.

    Fields:
        backend: dotted path of the transport's class.
        location: the URL, such as ``local://``; empty when only a BACKEND was given.
        options: what the entry has under OPTIONS; the transport reads and checks it.

    ``repr`` shows neither location nor options, since they may contain passwords.
    """

    backend: str
    location: str = field(default="", repr=False)
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partitions:
    """How many partitions each queue of a context has, for messages written from now on."""

    outbox: int = 1
    inbox: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSettings:
    """What a deployment overrides of one context; None leaves the value of its ContextConfig.

    Fields:
        database, transport, source: as in ContextConfig.
        signing: the key that signs the messages that it publishes; None (default): unsigned.
            Given as ``{"keys": {"2026-11": "…"}, "sign_with": "2026-11"}``.
        verifying: by the label of a source, the keys that verify its messages. Given as
            ``{"ordering": {"keys": {"2026-11": "…"}, "required": True}}``.
    """

    database: str | None = None
    transport: str | None = None
    source: Source | None = None
    signing: Signing | None = None
    verifying: Mapping[str, Verifying] = field(default_factory=lambda: MappingProxyType({}))


_LOCAL = TransportSettings(backend=SCHEMES["local"], location="local://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of OUTBOX_INBOX; the key of a field is its name in capitals.

    Fields:
        transports: by alias; "default" is ``local://`` unless it is set.
        batch_size: messages a mover takes at a time, fewer if they are large; default 500.
        batch_time: a batch transaction is committed early after this time; default 250 ms.
        partitions: see Partitions.
        max_attempts: failed attempts after which a message is dead; default 10.
        backoff: pauses between attempts; keys ``first``, ``factor``, ``maximum``, ``jitter``.
        publish_timeout: hard limit of one publication; default 5 s.
        retention: how long finished messages are kept; default 7 days.
        deduplication: how long message ids are remembered; default 30 days, at least retention.
        max_payload: bytes of UTF-8 a payload may have; default 262,144.
        max_hops: messages in a chain of causes before it counts as a loop; default 32.
        wake_up: None (polling), "celery" or "notify" (PostgreSQL); default None.
        frozen_after: the server (not SQLite) ends the session of a frozen worker that holds a
            partition after this time; default 60 s, longer than publish_timeout.
        contexts: by label, see ContextSettings.
    """

    transports: Mapping[str, TransportSettings] = field(
        default_factory=lambda: MappingProxyType({"default": _LOCAL})
    )
    batch_size: int = 500
    batch_time: timedelta = timedelta(milliseconds=250)
    partitions: Partitions = Partitions()
    max_attempts: int = 10
    backoff: Backoff = Backoff()
    publish_timeout: timedelta = timedelta(seconds=5)
    retention: timedelta = timedelta(days=7)
    deduplication: timedelta = timedelta(days=30)
    max_payload: int = 262_144
    max_hops: int = 32
    wake_up: WakeUp | None = None
    frozen_after: timedelta = timedelta(seconds=60)
    contexts: Mapping[str, ContextSettings] = field(default_factory=lambda: MappingProxyType({}))


_DEFAULT = Settings()
_BACKOFF_KEYS = tuple(each.name for each in fields(Backoff))


class _Read:
    """What was read of the settings of this process."""

    settings: ClassVar[Settings | None] = None
    lock = threading.Lock()


def settings() -> Settings:
    """Return OUTBOX_INBOX; it is read once, and again after ``override_settings``.

    Raises:
        SettingsError: with all mistakes at once, one a line.
    """
    # In two threads at once each would read them, and build what is compared by identity twice.
    return _Read.settings or _read_once()


@sensitive_variables()
def _read_once() -> Settings:
    with _Read.lock:
        if _Read.settings is None:
            given = getattr(django_settings, "OUTBOX_INBOX", {})
            known = [each.name.upper() for each in fields(Settings)]
            with checked_section("OUTBOX_INBOX", given, known) as section:
                read = _read_settings(section)
            # After the block, which refuses them: the next call must not find what is wrong in them.
            _Read.settings = read
        return _Read.settings


def _read_settings(section: Section) -> Settings:
    default, entries = _DEFAULT, section.section("TRANSPORTS")
    found = {
        alias: _read_transport(entries, alias)
        for alias in entries.names()
        if _is_alias(entries, alias)
    }
    transports = MappingProxyType({**default.transports, **found})
    partitions = section.section("PARTITIONS", ("outbox", "inbox"))
    read = Settings(
        transports=transports,
        batch_size=section.integer("BATCH_SIZE", default.batch_size, 10_000),
        batch_time=section.duration("BATCH_TIME", default.batch_time, _HOUR),
        partitions=Partitions(
            outbox=partitions.integer("outbox", default.partitions.outbox, 1_024),
            inbox=partitions.integer("inbox", default.partitions.inbox, 1_024),
        ),
        max_attempts=section.integer("MAX_ATTEMPTS", default.max_attempts, 10_000),
        backoff=_read_backoff(section.section("BACKOFF", _BACKOFF_KEYS)),
        publish_timeout=section.duration("PUBLISH_TIMEOUT", default.publish_timeout, _HOUR),
        retention=section.duration("RETENTION", default.retention, MOST),
        deduplication=section.duration("DEDUPLICATION", default.deduplication, MOST),
        max_payload=section.integer("MAX_PAYLOAD", default.max_payload, 256 * 1024 * 1024),
        max_hops=section.integer("MAX_HOPS", default.max_hops, 10_000),
        wake_up=cast(WakeUp | None, section.choice("WAKE_UP", get_args(WakeUp))),
        frozen_after=section.duration("FROZEN_AFTER", default.frozen_after, _DAY),
        contexts=_read_contexts(section.section("CONTEXTS"), transports),
    )
    _check_durations(section, read)
    return read


def _check_durations(section: Section, read: Settings) -> None:
    if read.deduplication < read.retention:
        section.problems.append(
            f"{section.path_of('DEDUPLICATION')} ({read.deduplication}) is shorter than "
            f"{section.path_of('RETENTION')} ({read.retention}); expected at least as long: a message "
            "that is retained can be replayed, and its id must still be known then"
        )
    if read.frozen_after <= read.publish_timeout:
        section.problems.append(
            f"{section.path_of('FROZEN_AFTER')} ({read.frozen_after}) is not longer than "
            f"{section.path_of('PUBLISH_TIMEOUT')} ({read.publish_timeout}); expected longer: a relay "
            "that waits for its transport would count as frozen"
        )


def _read_backoff(section: Section) -> Backoff:
    default = _DEFAULT.backoff
    first = section.duration("first", default.first, MOST)
    maximum = section.duration("maximum", max(first, default.maximum), MOST)
    if maximum < first:
        section.add_problem("maximum", f"a timedelta of at least first ({first})")
    return Backoff(
        first=first,
        factor=section.number("factor", default.factor, 1, 1_000),
        maximum=max(first, maximum),
        jitter=section.number("jitter", default.jitter, 0, 1),
    )


def _is_alias(section: Section, alias: str) -> bool:
    """Return whether an alias can be shown in logs, and is not the URL itself."""
    if "://" not in alias and "@" not in alias:
        return True
    path = section.path_of(alias)
    section.problems.append(
        f"{path}: the alias of a transport is a name; expected its URL as value"
    )
    return False


def _read_transport(section: Section, alias: str) -> TransportSettings:
    value = section.values[alias]
    if not isinstance(value, str | Mapping):
        wanted = 'a URL such as "local://" or a dict with BACKEND, LOCATION, OPTIONS'
        section.add_problem(alias, wanted)
        return _LOCAL
    table = {"LOCATION": value} if isinstance(value, str) else value
    keys = ("BACKEND", "LOCATION", "OPTIONS")
    entry = Section(section.path_of(alias), table, section.problems, keys)
    backend = entry.text("BACKEND", "the dotted path of a class")
    location = entry.text("LOCATION", 'a URL, such as "local://"') or ""
    if backend is None:
        backend = _backend_of(location, entry)
    elif not _DOTTED.fullmatch(backend):
        entry.add_problem("BACKEND", "the dotted path of a class")
    options = entry.section("OPTIONS").text_items()
    return TransportSettings(backend=backend, location=location, options=options)


def _backend_of(location: str, entry: Section) -> str:
    scheme, separator, _ = location.partition("://")
    if separator and scheme in SCHEMES:
        return SCHEMES[scheme]
    # The message does not show the location: it may contain a password.
    named = f" {scheme!r}" if _SCHEME.fullmatch(scheme) else ""
    problem = f"has the unknown URL scheme{named or ' (not shown)'}{entry.hint(scheme, SCHEMES)}"
    if not separator:
        schemes = ", ".join(f"{name}://" for name in sorted(SCHEMES))
        problem = f"has neither a URL nor a BACKEND; expected a URL ({schemes}) or "
        problem += "the dotted path of a class as BACKEND"
    entry.problems.append(f"{entry.path} {problem}")
    return _LOCAL.backend


def _read_contexts(
    section: Section, transports: Mapping[str, TransportSettings]
) -> Mapping[str, ContextSettings]:
    keys, found = [each.name for each in fields(ContextSettings)], {}
    for label in section.names():
        entry = section.section(label, keys)
        found[label] = ContextSettings(
            database=entry.choice("database", tuple(connections)),
            transport=entry.choice("transport", tuple(transports)),
            source=cast(Source | None, entry.choice("source", get_args(Source))),
            signing=read_signing(entry.section("signing", ("keys", "sign_with"), secret=True)),
            verifying=read_verifying(entry.section("verifying", secret=True)),
        )
    return MappingProxyType(found)


def _clear_settings(*, setting: str, **_: object) -> None:
    if setting in ("OUTBOX_INBOX", "DATABASES"):
        # With the lock: another thread that is reading the old ones would store them afterwards.
        with _Read.lock:
            _Read.settings = None


setting_changed.connect(_clear_settings, dispatch_uid="outbox_inbox.conf")
