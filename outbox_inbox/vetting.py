"""Judges what comes from outside before it gets into an inbox.

A message that passes is one that its consumers can read. Whatever else comes is refused with a
reason, and kept aside: it never gets to a handler and never stops those behind it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

from django.db import connections

from . import codec, statements
from .conf import settings
from .contexts import Context
from .dialects import stamp
from .exceptions import UnreadableMessage
from .messages import meta
from .models import Reason
from .preparing import MAX_KEY, hash_of
from .transports import ReceivedMessage
from .transports.wire import NO_HEADERS, SPECVERSION, TRACING

_REQUIRED = ("id", "source", "type")
_MAX_HOPS = 32_767  # what the column holds


class Accepted(NamedTuple):
    """A message that may come in, as a row, and the context that it is from."""

    source: str
    row: statements.Received


@dataclass(frozen=True)
class Refusal(Exception):
    """A message does not get in; ``detail`` says what is wrong with it, in a line."""

    reason: Reason
    detail: str

    def __str__(self) -> str:
        return self.detail


def vet(context: Context, message: ReceivedMessage) -> Accepted | None:
    """Return the message as a row for the context's inbox; None: it is of no interest to it.

    Raises:
        Refusal: it cannot be what its sender wanted to tell.
    """
    attributes = message.attributes
    _check_size(message)
    _check_required(attributes)
    source = _source(context, attributes["source"])
    name, version = _type(attributes["type"], source)
    if name not in context.subscribed:
        return None
    data = _text(message.data)
    _check_payload(context, name, version, data)
    return Accepted(source, _row(context, source, name, version, attributes, data))


def _check_size(message: ReceivedMessage) -> None:
    limit = settings().max_payload
    if len(message.data) > limit:
        raise Refusal(
            Reason.TOO_LARGE,
            f"it has {len(message.data):,} bytes, and MAX_PAYLOAD allows {limit:,}",
        )


def _check_required(attributes: Mapping[str, str]) -> None:
    missing = [name for name in _REQUIRED if not attributes.get(name)]
    if missing:
        raise Refusal(Reason.MALFORMED, f"the attributes {', '.join(missing)} are missing")
    spec = attributes.get("specversion")
    if spec != SPECVERSION:
        raise Refusal(Reason.MALFORMED, f"specversion is {_shown(spec)}; expected {SPECVERSION!r}")


def _source(context: Context, given: str) -> str:
    label = given.removeprefix("/")
    if label not in context.sources:
        known = ", ".join(f"/{each}" for each in sorted(context.sources)) or "none"
        raise Refusal(
            Reason.UNKNOWN_SOURCE,
            f"the source {_shown(given)} is none that {context.label!r} listens to ({known})",
        )
    return label


def _type(given: str, source: str) -> tuple[str, int]:
    name, separator, number = given.rpartition(".v")
    if not (separator and number.isdecimal() and len(number) <= 5 and int(number) > 0):
        raise Refusal(
            Reason.UNKNOWN_TYPE,
            f"the type {_shown(given)} is no contract's name and version, such as "
            "ordering.order_placed.v1",
        )
    if name.partition(".")[0] != source:
        raise Refusal(Reason.UNKNOWN_TYPE, f"the type {_shown(given)} is no contract of {source!r}")
    return name, int(number)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refusal(Reason.NOT_JSON, f"the data is not UTF-8: {error}") from None


def _check_payload(context: Context, name: str, version: int, data: str) -> None:
    cls = context.events[name]
    newest, upcasters = meta(cls).version, context.upcasters_of(cls)
    if version > newest or any(number not in upcasters for number in range(version, newest)):
        raise Refusal(
            Reason.UNKNOWN_VERSION,
            f"version {version} of {name} cannot be read here: known is {newest}, with upcasters "
            f"from {', '.join(map(str, sorted(upcasters))) or 'no other'}",
        )
    try:
        codec.decode(cls, data, version=version, upcasters=upcasters)
    except UnreadableMessage as error:
        raise Refusal(_why_unreadable(data), str(error)) from None


def _why_unreadable(data: str) -> Reason:
    """Find out which of its checks a payload did not pass; only asked of those that did not."""
    try:
        codec.check_limits(data, settings().max_payload)
    except UnreadableMessage:
        return Reason.TOO_DEEP
    try:
        codec.load_object(data)
    except UnreadableMessage:
        return Reason.NOT_JSON
    return Reason.WRONG_SCHEMA


def _row(
    context: Context,
    source: str,
    name: str,
    version: int,
    attributes: Mapping[str, str],
    data: str,
) -> statements.Received:
    message_id = _message_id(source, attributes["id"])
    key = _key(attributes.get("partitionkey") or attributes.get("subject"))
    causation = attributes.get("causationid")
    correlation = attributes.get("correlationid")
    return statements.Received(
        message_id=message_id,
        type=name,
        schema_version=version,
        key=key,
        payload=data,
        headers=_headers(attributes),
        correlation_id=_uuid("correlationid", correlation) if correlation else message_id,
        causation_id=_uuid("causationid", causation) if causation else None,
        hops=_hops(attributes.get("hops", "0")),
        key_hash=hash_of(key, message_id),
        recorded_at=stamp(connections[context.database], _time(attributes.get("time"))),
    )


def _message_id(source: str, given: str) -> UUID:
    """Return the id; of a foreign one that is no UUID one that is always the same."""
    try:
        return UUID(given)
    except ValueError:
        return uuid5(NAMESPACE_URL, f"{source}/{_storable('id', given)}")


def _uuid(name: str, given: str) -> UUID:
    try:
        return UUID(given)
    except ValueError:
        raise Refusal(Reason.MALFORMED, f"{name} is {_shown(given)}, no UUID") from None


def _key(given: str | None) -> str | None:
    if not given:
        return None
    if len(given) > MAX_KEY:
        raise Refusal(
            Reason.MALFORMED, f"the key has {len(given):,} characters, and {MAX_KEY} are allowed"
        )
    return _storable("partitionkey", given)


def _storable(name: str, given: str) -> str:
    problem = codec.text_problem(given)
    if problem:
        raise Refusal(Reason.MALFORMED, f"{name} {problem}")
    return given


def _hops(given: str) -> int:
    if not (given.isdecimal() and len(given) <= 5 and int(given) <= _MAX_HOPS):
        raise Refusal(Reason.MALFORMED, f"hops is {_shown(given)}, no number up to {_MAX_HOPS}")
    return int(given)


def _time(given: str | None) -> datetime:
    if not given:
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        raise Refusal(Reason.MALFORMED, f"time is {_shown(given)}, no RFC 3339 time") from None
    if found.tzinfo is None:
        raise Refusal(Reason.MALFORMED, f"time is {_shown(given)}, without its offset from UTC")
    return found


def _headers(attributes: Mapping[str, str]) -> str:
    given = attributes.get("headers")
    if given is None:
        tracing = {
            name: _storable(name, attributes[name]) for name in TRACING if attributes.get(name)
        }
        return codec.encode_headers(tracing) if tracing else NO_HEADERS
    try:
        codec.decode_headers(given)
    except UnreadableMessage as error:
        raise Refusal(Reason.MALFORMED, f"the headers cannot be read: {error}") from None
    return given


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
