"""Let the bounded contexts of one Django project talk through events, via outbox and inbox.

This module holds the public names. It imports no models, so that every ``models.py`` and
``apps.py`` may import it, whatever the order of INSTALLED_APPS.
"""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from .events import DomainEvent, IntegrationEvent
from .events.decorators import handles, inbound, outbound, upcasts
from .events.envelope import Envelope
from .exceptions import (
    ConcurrencyError,
    DuplicateMessage,
    InvalidEvent,
    NotInAtomicBlock,
    OutboxInboxError,
    PermanentError,
)

__all__ = [
    "ConcurrencyError",
    "DomainEvent",
    "DuplicateMessage",
    "Envelope",
    "IntegrationEvent",
    "InvalidEvent",
    "NotInAtomicBlock",
    "OutboxInboxError",
    "PermanentError",
    "handles",
    "inbound",
    "outbound",
    "record",
    "upcasts",
]


def record(
    *events: DomainEvent | IntegrationEvent,
    stream: str | None = None,
    expected_version: int | None = None,
    key: str | None = None,
    at: datetime | None = None,
    headers: Mapping[str, str] | None = None,
    message_id: UUID | None = None,
) -> list[Envelope]:
    """Store events of one context in its outbox, in the transaction that is open.

    Everything is checked before any SQL is run, and all events are stored or none. The call may
    be repeated safely only with a ``message_id`` of the caller's own.

    Arguments:
        events: domain events of one context, or contracts that it publishes; stored in order.
        stream: also append them to this local stream, such as ``"order-42"``. A stream puts the
            transactions that append to it in order; without one, lock the state (the aggregate's
            row) before you record, since the order of a key is the order of recording.
        expected_version: the number of events the stream must have now; 0 says that it must be
            new; None (default) appends after whatever is there.
        key: orders the messages instead of the key that the classes name; at most 200 characters.
        at: an aware datetime; the messages are not sent before. One in the past is "now". Not
            together with ``stream`` where the stream is what the context sends (``source``). See
            `outbox_inbox.outbox.scheduling.cancel` to take them back.
        headers: text by name, carried along to every consumer.
        message_id: an idempotency key of the caller's own, with one event only. It is remembered
            as long as the row is kept (``RETENTION``; for ever in a stream).

    Returns:
        One envelope an event.

    Raises:
        NotInAtomicBlock: no ``transaction.atomic()`` is open on the context's database.
        InvalidEvent: a value would not survive being stored; ``errors`` names all of them.
        ConcurrencyError: the stream is not at ``expected_version``; nothing was stored, and the
            transaction is as usable as before.
        DuplicateMessage: ``message_id`` was recorded before; the transaction is usable.
        NotAContext: an event's class belongs to no context.
        ContextMoved: the context is being handed over to another database, and is closed here.
        HopLimitExceeded: the message being handled ends a chain of more than ``MAX_HOPS``.
        HandlerError: it was called by a projection.
    """
    from .outbox import recording

    return recording.record(
        *events,
        stream=stream,
        expected_version=expected_version,
        key=key,
        at=at,
        headers=headers,
        message_id=message_id,
    )
