"""What a use case calls: `record` and `cancel`, in the transaction of the state that they go with.

This module imports no models. It is imported with ``outbox_inbox`` by any ``models.py`` or ``apps.py``,
and models cannot be imported before all apps are known. So the modules that need them are imported
by the calls.
"""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from outbox_inbox.contexts import Context
from outbox_inbox.events import DomainEvent, IntegrationEvent
from outbox_inbox.events.envelope import Envelope


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
        expected_version: the number of events the stream must have now; 0 means that it must be
            new; None (default) appends after what is there.
        key: orders the messages instead of the key that the classes name; at most 200 characters.
        at: an aware datetime; the messages are not sent before. One in the past is "now". Not
            together with ``stream`` where the stream is what the context sends (``source``).
            Until then `cancel` takes them back.
        headers: text by name, carried along to every consumer.
        message_id: an idempotency key of the caller's own, with one event only. It is unique in
            its context, and is remembered as long as the row is kept (``RETENTION``; for ever in a
            stream). After that the inbox of a consumer still knows it (``DEDUPLICATION``): there
            the same event is dropped as a repetition. Another one is not handled: a contract is
            quarantined by its subscriber, and a domain event is a dead letter of the outbox, with
            the reason.

    Returns:
        One envelope an event.

    Raises:
        NotInAtomicBlock: no ``transaction.atomic()`` is open on the context's database.
        InvalidEvent: a value would not survive being stored; ``errors`` names all of them.
        ConcurrencyError: the stream is not at ``expected_version``; nothing was stored, and the
            transaction is as usable as before.
        DuplicateMessage: ``message_id`` was recorded before; the transaction is usable.
        NotAContext: an event's class belongs to no context.
        ContextMoved: the context is being transferred to another database, and is closed here.
        HopLimitExceeded: the message being handled ends a chain of more than ``MAX_HOPS``.
        HandlerError: it was called by a projection.
    """
    from . import recording
    from .rows import Terms

    return recording.record_events(
        events, Terms(key, at, headers, message_id), stream, expected_version
    )


def cancel(message_id: UUID, *, context: str | Context, reason: str = "cancelled") -> bool:
    """Discard a message that was recorded for later, in the transaction that is open.

    It takes effect with the commit, together with the state that makes the message needless; after a
    rollback the message is sent at its time. It never waits for a worker that is moving the message.
    A stream is not changed: what an event with ``stream=`` says has happened.

    Arguments:
        message_id: the id of its envelope, or the one given to ``record(message_id=)``. It stays
            used: another message cannot have it.
        context: the context that recorded it, or its label.
        reason: why, for the operator; stored with the message; default "cancelled", at most 500
            characters.

    Returns:
        True: it was still waiting, and will never be sent. False: it may be on its way, was sent,
        tried or discarded before, was not for later, or does not exist.

    Raises:
        NotInAtomicBlock: no ``transaction.atomic()`` is open on the context's database.
        InvalidEvent: the id is not a UUID, or the reason is empty or too long.
        NotAContext: there is no such context.
        ContextMoved: the context is being transferred to another database, and is closed here.
        HandlerError: it was called by a projection.
    """
    from . import scheduling

    return scheduling.cancel(message_id, context=context, reason=reason)
