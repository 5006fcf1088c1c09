"""What ``record()`` does: events go to the outbox, and to the local stream, with the state they report.

All of it happens in the caller's transaction. With a connection of its own a crash between two commits
would store the state without its event, or the event without its state.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox import streams
from outbox_inbox.conf import Source, faults
from outbox_inbox.contexts import Context, context_of
from outbox_inbox.events.envelope import Envelope, current
from outbox_inbox.exceptions import DuplicateMessage, HandlerError, InvalidEvent, NotInAtomicBlock
from outbox_inbox.projections import applied_by
from outbox_inbox.queues import statements, wakeup
from outbox_inbox.queues.envelopes import envelope_of
from outbox_inbox.queues.interests import require_interests
from outbox_inbox.queues.layouts import declared_layout, likely_source, note_source, require_layout
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
        require_layout(context)
        if stream is None:
            times = store_rows(context, rows, fresh=terms.message_id is None)
        else:
            times = _append_and_store(context, rows, stream, expected_version)
    except DatabaseError as error:
        moved.explain_refusal(error)
        raise
    faults.point("record.after_insert")
    wakeup.nudge(context)
    if context.read_models and (stream is not None or likely_source(context) == "stream"):
        wakeup.nudge(context, "project")
    stored = zip(rows, times, strict=True)
    return [envelope_of(connection, row, row.context, recorded_at) for row, recorded_at in stored]


def store_rows(
    context: Context, rows: Sequence[statements.EventRow], *, fresh: bool = False
) -> list[Any]:
    """Store prepared rows where the relay will find them; return the time stamp of each.

    That is the outbox; or the stream, if that is the source in force.

    Arguments:
        fresh: the ids were made just now, so it is not checked whether they are in use.

    Raises:
        DuplicateMessage: an id was recorded before. Only an id of the caller's own can be, and
            that comes with one event, so nothing is half stored.
    """
    connection, layout = connections[context.database], declared_layout(context)
    # A message for the future is not a fact yet, and always waits in the outbox.
    if rows[0].due_at is not None:
        return _insert_into_outbox(connection, rows, layout, fresh=fresh).times
    likely = likely_source(context)
    for source in _SOURCES if likely == "outbox" else reversed(_SOURCES):
        if source == "outbox":
            stored = _insert_into_outbox(connection, rows, layout, fresh=fresh)
        else:
            stored = _append_each(connection, rows, layout)
        if stored.source == source:
            return stored.times
        # Another source is in force than when this process looked last. The statement has found
        # out; from now on `repartition` waits for this transaction.
        statements.delete_rows(connection, source, rows)
        note_source(context, stored.source)
    raise AssertionError("the source in force has changed within a transaction")


_SOURCES: Final[tuple[Source, ...]] = ("outbox", "stream")


class _StoredRows(NamedTuple):
    times: list[Any]
    source: Source
    """The source that is in force, wherever the rows were stored."""


def _insert_into_outbox(
    connection: BaseDatabaseWrapper,
    rows: Sequence[statements.EventRow],
    layout: statements.Layout,
    times: Sequence[Any] = (),
    *,
    fresh: bool = False,
) -> _StoredRows:
    stored = statements.insert_outbox(connection, rows, layout, times, fresh=fresh)
    if len(stored) < len(rows):
        raise DuplicateMessage(f"the message {rows[0].message_id} has been recorded before")
    return _StoredRows([row.recorded_at for row in stored], stored[0].source)


def _append_each(
    connection: BaseDatabaseWrapper,
    rows: Sequence[statements.EventRow],
    layout: statements.Layout,
) -> _StoredRows:
    stored = streams.append_each(connection, rows, layout)
    return _StoredRows([row.recorded_at for row in stored], stored[0].source)


def _append_and_store(
    context: Context,
    rows: Sequence[statements.EventRow],
    stream: str,
    expected_version: int | None,
) -> list[Any]:
    """Append to a stream; and store in the outbox what is not sent from the stream."""
    connection, layout = connections[context.database], declared_layout(context)
    later = rows[0].due_at is not None
    stored = streams.append_to_stream(
        connection, rows, stream, expected_version, layout, in_outbox=later
    )
    times = [row.recorded_at for row in stored]
    if stored[0].source == "stream":
        return times
    try:
        return _insert_into_outbox(connection, rows, layout, times).times
    except DuplicateMessage:
        # The id is in the outbox, but not in the stream. The caller may catch this error and commit: the
        # event would then be in the stream, and never be sent.
        statements.delete_rows(connection, "stream", rows)
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
