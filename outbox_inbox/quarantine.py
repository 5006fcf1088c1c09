"""Keeps aside what may not get into an inbox: as it came, with the reason, and once."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from django.utils import timezone

from . import announcing
from .conf import settings
from .contexts import Context
from .models import QuarantinedMessage, Reason
from .transports import ReceivedMessage

_SHORT = 200  # characters of what its sender calls it
_LONG = 4_000  # characters of one attribute, and of the error


class Kept(NamedTuple):
    """A message that is to be kept aside, and why."""

    message: ReceivedMessage
    reason: Reason
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
                error=_cut(error, _LONG),
                source=_cut(message.attributes.get("source", ""), _SHORT),
                message_id=_cut(message.attributes.get("id", ""), _SHORT),
                type=_cut(message.attributes.get("type", ""), _SHORT),
                attributes=_as_json(message.attributes),
                data=message.data[:limit],
                size=len(message.data),
                fingerprint=fingerprint(message),
                received_at=now,
            )
            for message, reason, error in kept
        ),
        ignore_conflicts=True,
    )


def announce(context: Context, kept: Sequence[Kept]) -> None:
    """Tell of messages that were kept aside, after the commit."""
    for message, reason, error in kept:
        announcing.message_quarantined(context, message.attributes, reason, error)


def fingerprint(message: ReceivedMessage) -> str:
    """Return what two messages have in common only if they are the same in every byte."""
    told = json.dumps(sorted(message.attributes.items()))
    return sha256(told.encode() + b"\0" + message.data).hexdigest()


def unkept(row: QuarantinedMessage) -> ReceivedMessage:
    """Return a message that was kept aside as it came; what was cut is missing."""
    return ReceivedMessage(
        receipt=None, attributes=json.loads(row.attributes), data=bytes(row.data)
    )


def _as_json(attributes: Mapping[str, str]) -> str:
    # In ASCII, so that it can be stored whatever it holds.
    return json.dumps({name: value[:_LONG] for name, value in attributes.items()})


def _cut(text: str, limit: int) -> str:
    clean = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"
