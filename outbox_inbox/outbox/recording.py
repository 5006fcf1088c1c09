"""What ``record()`` does: events go to the outbox, and to the local stream, with the state they report.

All of it happens in the caller's transaction. With a connection of its own a crash between two commits
would store the state without its event, or the event without its state.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox import streams
from outbox_inbox.conf import faults
from outbox_inbox.contexts import Context, context_of
from outbox_inbox.events.envelope import Envelope, current
from outbox_inbox.exceptions import DuplicateMessage, HandlerError, InvalidEvent, NotInAtomicBlock
from outbox_inbox.projections import applied_by
from outbox_inbox.queues import statements, wakeup
from outbox_inbox.queues.envelopes import envelope_of
from outbox_inbox.queues.interests import require_interests
from outbox_inbox.queues.statements import moved

from .rows import Event, Terms, prepare_rows


def record_events(
    events: Sequence[Event], terms: Terms, stream: str | None, expected_version: int | None
) -> list[Envelope]:
    """Store events in the transaction that is open: see `outbox_inbox.record`."""
    if not events:
        return []
    context = _common_context(events)
    _check_arguments(events, stream, expected_version, terms.message_id)
    if stream is not None and terms.at is not None and context.source == "stream":
        problem = (
            "at= and stream= do not go together where the stream is what is sent, as in "
            f"{context.label!r}: an event in a stream is a fact, and is sent at once"
        )
        raise InvalidEvent("record()", [problem])
    connection = connections[context.database]
    if not connection.in_atomic_block:
        raise NotInAtomicBlock(
            f"record() was called outside transaction.atomic() of the database "
            f"{context.database!r}, where the context {context.label!r} keeps its outbox. "
            "The events and the state they report must be committed together."
        )
    rows = prepare_rows(context, events, terms, current.get(), connection)
    faults.point("record.before_insert")
    try:
        require_interests(context)
        if stream is None:
            times = store_rows(context, rows, fresh=terms.message_id is None)
        elif context.source == "stream":
            place = (stream, expected_version)
            times = streams.append_to_stream(connection, rows, *place, in_outbox=False)
        else:
            times = _append_and_store(connection, rows, stream, expected_version)
    except DatabaseError as error:
        moved.explain_refusal(error)
        raise
    faults.point("record.after_insert")
    wakeup.nudge(context)
    if context.read_models and (stream is not None or context.source == "stream"):
        wakeup.nudge(context, "project")
    stored = zip(rows, times, strict=True)
    return [envelope_of(connection, row, row.context, recorded_at) for row, recorded_at in stored]


def store_rows(
    context: Context, rows: Sequence[statements.EventRow], *, fresh: bool = False
) -> list[Any]:
    """Store prepared rows where the relay will find them; return the time stamp of each.

    That is the outbox; or the stream, if that is the context's source.

    Arguments:
        fresh: the ids were made just now, so it is not checked whether they are in use.

    Raises:
        DuplicateMessage: an id was recorded before. Only an id of the caller's own can be, and
            that comes with one event, so nothing is half stored.
    """
    connection = connections[context.database]
    # A message for the future is not a fact yet, and always waits in the outbox.
    if context.source == "stream" and rows[0].due_at is None:
        return streams.append_each(connection, rows)
    return _insert_into_outbox(connection, rows, fresh=fresh)


def _insert_into_outbox(
    connection: BaseDatabaseWrapper,
    rows: Sequence[statements.EventRow],
    times: Sequence[Any] = (),
    *,
    fresh: bool = False,
) -> list[Any]:
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
    times = streams.append_to_stream(connection, rows, stream, expected_version)
    try:
        return _insert_into_outbox(connection, rows, times)
    except DuplicateMessage:
        # The id is in the outbox, but not in the stream. The caller may catch this error and commit: the
        # event would then be in the stream, and never be sent.
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


def _check_arguments(
    events: Sequence[Event], stream: str | None, expected_version: int | None, message_id: object
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
