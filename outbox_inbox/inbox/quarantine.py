"""Keeps aside what may not get into an inbox: as it came, with the reason, and once."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from operator import itemgetter
from typing import Any, NamedTuple

from django.utils import timezone

from outbox_inbox.conf import settings
from outbox_inbox.contexts import Context
from outbox_inbox.models import QuarantinedMessage, QuarantineReason
from outbox_inbox.queues import announcements
from outbox_inbox.transports import ReceivedMessage

_SHORT = 200  # characters of what its sender calls it, and of an attribute if there is too much
_LONG = 4_000  # characters of the error
_MANY = 100  # attributes that are kept if there is too much
_ROWS = 20  # in one statement: each may have MAX_PAYLOAD bytes, and MySQL takes 16 MB by default


class Kept(NamedTuple):
    """A message that is to be kept aside, and why."""

    message: ReceivedMessage
    reason: QuarantineReason
    error: str


def keep(context: Context, kept: Sequence[Kept]) -> None:
    """Store messages in the caller's transaction; one that is there already is left as it is."""
    limit = settings().max_payload
    now = timezone.now()
    QuarantinedMessage.objects.using(context.database).bulk_create(
        (
            QuarantinedMessage(
                context=context.label,
                reason=reason,
                error=cut(error),
                source=named(message, "source"),
                message_id=named(message, "id"),
                type=named(message, "type"),
                attributes=_kept_attributes(message.attributes, limit),
                data=message.data[:limit],
                size=len(message.data),
                fingerprint=fingerprint(message),
                received_at=now,
            )
            for message, reason, error in kept
        ),
        ignore_conflicts=True,
        batch_size=_ROWS,
    )


def announce(context: Context, kept: Sequence[Kept]) -> None:
    """Tell of messages that were kept aside, after the commit."""
    for message, reason, error in kept:
        announcements.message_quarantined(context, message.attributes, reason, error)


def fingerprint(message: ReceivedMessage) -> str:
    """Return what two messages have in common only if they are the same in every byte."""
    told = _as_json(
        sorted(
            ((str(name), value) for name, value in message.attributes.items()), key=itemgetter(0)
        )
    )
    return sha256(told.encode() + b"\0" + message.data).hexdigest()


def unkept(row: QuarantinedMessage) -> ReceivedMessage | None:
    """Return a message that was kept aside as it came; None: some of it was cut, and is gone."""
    message = ReceivedMessage(
        receipt=None, attributes=json.loads(row.attributes), data=bytes(row.data)
    )
    return message if fingerprint(message) == row.fingerprint else None


def named(message: ReceivedMessage, attribute: str) -> str:
    """Return what a message says of itself, cut so that it can be stored and shown."""
    value: Any = message.attributes.get(attribute, "")
    return cut(value if isinstance(value, str) else _as_json(value), _SHORT)


def cut(text: str, limit: int = _LONG) -> str:
    """Return a text of at most ``limit`` characters that any database takes."""
    clean = text[:limit].replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    return clean if len(clean) <= limit and len(text) <= limit else f"{clean[: limit - 1]}…"


def _kept_attributes(attributes: Mapping[str, Any], limit: int) -> str:
    """Return the attributes, all of them if they are not larger than a payload may be."""
    whole = _as_json({str(name): value for name, value in attributes.items()})
    if len(whole) <= limit:
        return whole
    some = list(attributes.items())[:_MANY]
    return _as_json(
        {
            str(name)[:_SHORT]: (value if isinstance(value, str) else _as_json(value))[:_SHORT]
            for name, value in some
        }
    )


def _as_json(value: Any) -> str:
    # In ASCII, so that it can be stored whatever it holds. What JSON has no word for is shown in
    # a form that no text has, so that it is not taken for one later.
    return json.dumps(value, default=lambda other: {type(other).__name__: repr(other)})
