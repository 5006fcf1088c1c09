"""CloudEvents attributes of a message from outside, checked and read into a row for the inbox.

They are the sender's text: unchecked, one value that a column refuses would roll back the whole batch
of messages that it came with, at every attempt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from django.db import connections

from outbox_inbox.conf.times import time_problem
from outbox_inbox.contexts import Context
from outbox_inbox.events import codec
from outbox_inbox.exceptions import InvalidEvent, UnreadableMessage
from outbox_inbox.models import QuarantineReason
from outbox_inbox.outbox.rows import MAX_KEY, hash_of
from outbox_inbox.queues import statements
from outbox_inbox.queues.contents import TRACING
from outbox_inbox.queues.statements.dialects import time_parameter
from outbox_inbox.transports.wire import NO_HEADERS, SPECVERSION

_REQUIRED = ("id", "source", "type")
_MAX_HOPS = 32_767  # what the column holds


@dataclass(frozen=True)
class Refusal(Exception):
    """A message is refused; ``detail`` says what is wrong with it, in one line."""

    reason: QuarantineReason
    detail: str

    def __str__(self) -> str:
        return self.detail


def _malformed(detail: str) -> Refusal:
    return Refusal(QuarantineReason.MALFORMED, detail)


def check_attributes(attributes: Mapping[Any, Any]) -> None:
    """Refuse attributes that are not text, and a message without those that CloudEvents requires.

    Raises:
        Refusal: the message is not a CloudEvent.
    """
    for name, value in attributes.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise _malformed(
                f"the attribute {excerpt(name)} is {excerpt(value)}, which is not text"
            )
    missing = [name for name in _REQUIRED if not attributes.get(name)]
    if missing:
        raise _malformed(f"required attributes are missing: {', '.join(missing)}")
    spec = attributes.get("specversion")
    if spec != SPECVERSION:
        raise _malformed(f"specversion is {excerpt(spec)}; expected {SPECVERSION!r}")


def received_row(
    context: Context,
    source: str,
    contract: tuple[str, int],
    attributes: Mapping[str, str],
    data: str,
) -> statements.ReceivedRow:
    """Return a message, whose attributes and payload were checked, as a row for the inbox.

    Raises:
        Refusal: an attribute has a value that cannot be read or stored.
    """
    message_id = _message_id(source, attributes["id"])
    key = _key(attributes.get("partitionkey") or attributes.get("subject"))
    written: dict[str, str] = {}
    correlation = _conversation_id(attributes.get("correlationid"), written)
    causation = _cause_id(source, attributes.get("causationid"), written)
    return statements.ReceivedRow(
        message_id=message_id,
        type=contract[0],
        schema_version=contract[1],
        key=key,
        payload=data,
        headers=_headers(attributes, written),
        correlation_id=correlation or message_id,
        causation_id=causation,
        hops=_hops(attributes.get("hops", "0")),
        key_hash=hash_of(key, message_id),
        recorded_at=time_parameter(connections[context.database], _time(attributes.get("time"))),
    )


def excerpt(value: Any) -> str:
    """Return a value as at most 80 characters of ASCII on one line, safe in a log or an error."""
    text = ascii(value[:80] if isinstance(value, str | bytes) else value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _as_written(given: str) -> UUID | None:
    """Return the UUID that is written like this in the one usual form, or None."""
    try:
        found = UUID(given)
    except ValueError:
        return None
    # Python reads braces, urn:uuid:, capitals and misplaced hyphens as well. To CloudEvents, ids that are
    # written differently are two events: the second would be dropped as a repetition of the first.
    return found if str(found) == given else None


def _message_id(source: str, given: str) -> UUID:
    """Return the id; one that is not a UUID becomes one, always the same, so duplicates are found."""
    return _as_written(given) or uuid5(NAMESPACE_URL, f"{source}/{_storable('id', given)}")


def _conversation_id(given: str | None, written: dict[str, str]) -> UUID | None:
    """Return a correlation id; one that is not a UUID becomes one, the same from every source."""
    if not given:
        return None
    # A conversation goes through many systems, and some of them write a UUID in their own way. Nothing is
    # dropped because of it.
    try:
        return UUID(given)
    except ValueError:
        written["correlationid"] = given
        return uuid5(NAMESPACE_URL, _storable("correlationid", given))


def _cause_id(source: str, given: str | None, written: dict[str, str]) -> UUID | None:
    """Return a causation id; one that is not a UUID becomes what the id of that message became."""
    if not given:
        return None
    if found := _as_written(given):
        return found
    written["causationid"] = given
    return uuid5(NAMESPACE_URL, f"{source}/{_storable('causationid', given)}")


def _key(given: str | None) -> str | None:
    if not given:
        return None
    if len(given) > MAX_KEY:
        raise _malformed(f"its key has {len(given):,} characters; at most {MAX_KEY} are allowed")
    return _storable("partitionkey", given)


def _storable(name: str, given: str) -> str:
    problem = codec.text_problem(given)
    if problem:
        raise _malformed(f"{name} {problem}")
    return given


def _hops(given: str) -> int:
    if not (given.isdecimal() and len(given) <= 5 and int(given) <= _MAX_HOPS):
        raise _malformed(f"hops is {excerpt(given)}; expected a number from 0 to {_MAX_HOPS}")
    return int(given)


def _time(given: str | None) -> datetime:
    if not given:
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(given.upper())  # RFC 3339 also allows "t" and "z"
    except ValueError:
        raise _malformed(f"time is {excerpt(given)}; expected an RFC 3339 time") from None
    if found.tzinfo is None:
        raise _malformed(f"time is {excerpt(given)}; its offset from UTC is missing")
    if problem := time_problem(found):
        raise _malformed(f"time is {excerpt(given)}; {problem}")
    return found.astimezone(UTC)


def _headers(attributes: Mapping[str, str], written: Mapping[str, str]) -> str:
    """Return the headers as JSON, with the ids as their sender wrote them where others are derived."""
    given = attributes.get("headers")
    try:
        if given is None:
            found = {name: attributes[name] for name in TRACING if attributes.get(name)}
        else:
            found = codec.decode_headers(given)
        if given is not None and not written:
            return given
        found |= written
        return codec.encode_headers(found) if found else NO_HEADERS
    except (InvalidEvent, UnreadableMessage) as error:
        raise _malformed(f"the headers cannot be read: {error}") from None
