"""``record()``: store events in the outbox, and in the local stream, with the state they report."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox import streams
from outbox_inbox.conf import faults, settings
from outbox_inbox.contexts import Context, context_of
from outbox_inbox.events.envelope import Envelope, current
from outbox_inbox.exceptions import DuplicateMessage, HandlerError, InvalidEvent, NotInAtomicBlock
from outbox_inbox.projections import applied_by
from outbox_inbox.queues import statements, wakeup
from outbox_inbox.queues.envelopes import envelope_of
from outbox_inbox.queues.statements import moved

from .rows import Event, Terms, prepare


def record(
    *events: Event,
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
    if not events:
        return []
    context = _common_context(events)
    _check_arguments(events, stream, expected_version, message_id)
    if stream is not None and at is not None:
        _refuse_future_fact(context)
    connection = connections[context.database]
    if not connection.in_atomic_block:
        raise NotInAtomicBlock(
            f"record() was called outside transaction.atomic() of the database "
            f"{context.database!r}, where the context {context.label!r} keeps its outbox. "
            "The events and the state they report must be committed together."
        )
    terms = Terms(key, at, headers, message_id)
    rows = prepare(context, events, terms, current.get(), connection)
    faults.point("record.before_insert")
    try:
        if stream is None:
            times = store(context, rows, fresh=message_id is None)
        elif context.source == "stream":
            times = streams.append(connection, rows, stream, expected_version, in_outbox=False)
        else:
            times = _append_and_store(connection, rows, stream, expected_version)
    except DatabaseError as error:
        moved.explain_refusal(error)
        raise
    faults.point("record.after_insert")
    if settings().wake_up:
        _wake_up(context, stream)
    return [
        envelope_of(connection, row, row.context, time)
        for row, time in zip(rows, times, strict=True)
    ]


def _wake_up(context: Context, stream: str | None) -> None:
    wakeup.nudge(context)
    if context.read_models and (stream is not None or context.source == "stream"):
        wakeup.nudge(context, "project")


def store(
    context: Context, rows: Sequence[statements.EventRow], *, fresh: bool = False
) -> list[Any]:
    """Store prepared rows where the relay will find them; return the time stamp of each.

    That is the outbox; or, in a context that is its own source, the stream. A message for the
    future is no fact yet, and always waits in the outbox.

    Arguments:
        fresh: the ids were made just now, which saves a look for them.

    Raises:
        DuplicateMessage: an id was recorded before. Only an id of the caller's own can be, and
            that comes with one event, so nothing is half stored.
    """
    connection = connections[context.database]
    if context.source == "stream" and rows[0].due_at is None:
        return streams.append_apart(connection, rows)
    return _put(connection, rows, fresh=fresh)


def _put(
    connection: BaseDatabaseWrapper,
    rows: Sequence[statements.EventRow],
    times: Sequence[Any] = (),
    *,
    fresh: bool = False,
) -> list[Any]:
    """Insert rows into the outbox, with these time stamps or those of the database's clock."""
    stored = [row[0] for row in statements.insert_outbox(connection, rows, times, fresh=fresh)]
    if len(stored) < len(rows):
        raise DuplicateMessage(f"the message {rows[0].message_id} has been recorded before")
    return stored


def _append_and_store(
    connection: BaseDatabaseWrapper,
    rows: Sequence[statements.EventRow],
    stream: str,
    expected_version: int | None,
) -> list[Any]:
    times = streams.append(connection, rows, stream, expected_version)
    try:
        return _put(connection, rows, times)
    except DuplicateMessage:
        # The id is in the outbox and in no stream: both places get the event, or none does.
        statements.delete_events(connection, [row.message_id for row in rows])
        raise


def _common_context(events: Sequence[Event]) -> Context:
    found = {context.label: context for context in map(context_of, events)}
    if len(found) > 1:
        raise InvalidEvent(
            "record()", [f"its events belong to several contexts: {', '.join(sorted(found))}"]
        )
    (context,) = found.values()
    return context


def _refuse_future_fact(context: Context) -> None:
    if context.source == "stream":
        problem = (
            "at= and stream= do not go together where the stream is what is sent, as in "
            f"{context.label!r}: an event in a stream is a fact, and is sent at once"
        )
        raise InvalidEvent("record()", [problem])


def _check_arguments(
    events: Sequence[Event],
    stream: str | None,
    expected_version: int | None,
    message_id: object,
) -> None:
    if applied_by.get() is not None:
        raise HandlerError(
            f"the projection {applied_by.get()} called record(): a read model decides nothing, and "
            "a rebuild would record it again. Use a handler, or a process"
        )
    problems = []
    if message_id is not None and len(events) != 1:
        problems.append(f"message_id names one message, but {len(events)} events were given")
    if message_id is not None and not isinstance(message_id, UUID):
        problems.append(f"message_id must be a UUID, not {message_id!r}")
    if stream is None and expected_version is not None:
        problems.append("expected_version says something about a stream, but stream= is missing")
    if stream is not None:
        problems += streams.problems_of(stream, expected_version)
    if problems:
        raise InvalidEvent("record()", problems)
