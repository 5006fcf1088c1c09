"""Quarantine: messages from outside that were refused, stored as they came, each once.

Without it a refused message would be lost with the acknowledgement to the transport, or be delivered
again for ever without one.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from django.db import connections, transaction
from django.utils import timezone

from outbox_inbox.conf import settings
from outbox_inbox.contexts import Context
from outbox_inbox.models import QuarantinedMessage, QuarantineReason
from outbox_inbox.queues import announcements, statements
from outbox_inbox.queues.statements.packets import packets
from outbox_inbox.signals.escaping import visible

from .base import OutgoingMessage, ReceivedMessage
from .wire import attributes_of

_SHORT = 200  # characters of an attribute that has a column, and of each when there are too many
_LONG = 4_000  # characters of the error
_MANY = 100  # attributes that are stored when they are larger than a payload may be
_ROWS = 500  # in one statement, if they are small


class RefusedMessage(NamedTuple):
    """A message for the quarantine, and why it was refused."""

    message: ReceivedMessage
    reason: QuarantineReason
    error: str


class Place(NamedTuple):
    """The inbox of a context that this process's code may not have; a context has both as well."""

    label: str
    database: str


def quarantine_messages(context: Context | Place, refused: Sequence[RefusedMessage]) -> None:
    """Store messages in the caller's transaction; one that is there already stays as it is."""
    limit = settings().max_payload
    now = timezone.now()
    rows = (
        QuarantinedMessage(
            context=context.label,
            reason=reason,
            error=cut_text(visible(error, _LONG)),
            source=attribute_text(message, "source"),
            message_id=attribute_text(message, "id"),
            type=attribute_text(message, "type"),
            attributes=_stored_attributes(message.attributes, limit),
            data=message.data[:limit],
            size=len(message.data),
            fingerprint=message_fingerprint(message),
            received_at=now,
        )
        for message, reason, error in refused
    )
    for packet in packets(rows, _large_values, _ROWS):
        # A transport that was not acknowledged delivers again: the fingerprint makes it one row.
        QuarantinedMessage.objects.using(context.database).bulk_create(
            packet, ignore_conflicts=True
        )


def _large_values(row: QuarantinedMessage) -> tuple[Any, ...]:
    return row.data, row.attributes, row.error


def quarantine_outgoing(
    source: Context,
    subscriber: Place,
    messages: Sequence[OutgoingMessage],
    conflicts: Mapping[int, str],
) -> None:
    """Store messages as they would have come over a broker, and announce them after the commit.

    Arguments:
        conflicts: row of a message -> why the inbox of the subscriber does not take it.
    """
    if not conflicts:
        return
    connection, stored = connections[source.database], messages[0].stored
    texts = statements.select_texts(connection, list(conflicts), stored=stored)
    refused: list[RefusedMessage] = []
    for message in messages:
        if message.row in conflicts:
            data, headers = texts[message.row]
            whole = message._replace(data=data, headers=headers)
            came = ReceivedMessage(
                receipt=None, attributes=attributes_of(source, whole), data=data.encode()
            )
            error = conflicts[message.row]
            refused.append(RefusedMessage(came, QuarantineReason.CONFLICT, error))
    quarantine_messages(subscriber, refused)
    announce = partial(announce_quarantined, subscriber, refused)
    transaction.on_commit(announce, using=subscriber.database)


def announce_quarantined(context: Context | Place, refused: Sequence[RefusedMessage]) -> None:
    """Announce messages that were quarantined, after the commit."""
    for message, reason, error in refused:
        announcements.message_quarantined(context.label, message.attributes, reason, error)


def message_fingerprint(message: ReceivedMessage) -> str:
    """Return a hash that two messages share only if they are the same in every byte."""
    named = ((str(name), value) for name, value in message.attributes.items())
    attributes = _as_json(sorted(named, key=itemgetter(0)))
    return sha256(attributes.encode() + b"\0" + message.data).hexdigest()


def restore_message(row: QuarantinedMessage) -> ReceivedMessage | None:
    """Return a quarantined message as it came; None: it was too long, and is not stored whole."""
    message = ReceivedMessage(
        receipt=None, attributes=json.loads(row.attributes), data=bytes(row.data)
    )
    return message if message_fingerprint(message) == row.fingerprint else None


def attribute_text(message: ReceivedMessage, attribute: str) -> str:
    """Return an attribute of a message as text that can be stored and shown; "" without it."""
    value: Any = message.attributes.get(attribute, "")
    return cut_text(value if isinstance(value, str) else _as_json(value), _SHORT)


def cut_text(text: str, limit: int = _LONG) -> str:
    """Return a text as at most ``limit`` characters that every database can store."""
    clean = text[:limit].replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    return clean if len(clean) <= limit and len(text) <= limit else f"{clean[: limit - 1]}…"


def _stored_attributes(attributes: Mapping[str, Any], limit: int) -> str:
    """Return the attributes as JSON, all of them unless they are larger than a payload may be."""
    whole = _as_json({str(name): value for name, value in attributes.items()})
    if len(whole) <= limit:
        return whole
    some = {
        str(name)[:_SHORT]: (value if isinstance(value, str) else _as_json(value))[:_SHORT]
        for name, value in islice(attributes.items(), _MANY)
    }
    return _as_json(some)


def _as_json(value: Any) -> str:
    # In ASCII, so that every database can store it. A value that is not JSON becomes an object, which
    # no text attribute is: released as text, it would be another message than the one that came.
    return json.dumps(value, default=lambda other: {type(other).__name__: repr(other)})
