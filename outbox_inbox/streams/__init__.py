"""The local streams of a context: append in ``record()``, read back to decide.

The unique constraint on (context, stream, version) is what makes a stream safe: of two transactions that
decide on the same version, one fails. Without it both decisions would stand.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Max, QuerySet

from outbox_inbox import contexts
from outbox_inbox.contexts import Context
from outbox_inbox.events import DomainEvent, IntegrationEvent, codec
from outbox_inbox.events.envelope import Envelope
from outbox_inbox.exceptions import ConcurrencyError, DuplicateMessage, UnreadableMessage
from outbox_inbox.models import StoredEvent
from outbox_inbox.queues import statements
from outbox_inbox.queues.envelopes import envelope_of

from .subscriptions import follow as follow

_MAX_STREAM = 200
_RETRIES = 100
_PAGE = 1000  # events that are read by one statement


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEvent:
    """One event of a stream."""

    event: Any
    """The event, brought to its newest version by the upcasters."""
    version: int
    """Its number in the stream, from 1."""
    position: int
    """Its place among all stored events of the database."""
    envelope: Envelope
    """What ``record()`` returned for it."""


def read(context: str | Context, stream: str, after: int = 0) -> Iterator[RecordedEvent]:
    """Yield the events of a stream in order of their versions.

    It reads page by page, so it needs neither a transaction nor a session of its own. Events that are
    appended meanwhile are read as well, unless the transaction shows one moment.

    Arguments:
        context: the context or its label.
        stream: the name given to ``record(stream=)``; one that does not exist is empty.
        after: skip the events up to and including this version; default 0, none.

    Raises:
        NotAContext: there is no such context.
        UnreadableMessage: a stored event has no class in this process, or does not fit it.
    """
    home = _context(context)
    for page in _pages(_rows(home, stream), after, attrgetter("version")):
        yield from (recorded_event(home, row) for row in page)


def events(context: Context, stream: str, after: int = 0) -> Iterator[tuple[Any, int, UUID]]:
    """Yield event, version and message id: like `read`, in half the time, to be folded."""
    names = "type", "schema_version", "payload", "version", "message_id"
    rows = _rows(context, stream).values_list(*names)
    for page in _pages(rows, after, itemgetter(3)):
        for kind, schema_version, payload, number, message_id in page:
            event = _decode(context, kind, schema_version, payload, (stream, number))
            yield event, number, message_id


def _pages(
    rows: QuerySet[Any, Any], after: int, version_of: Callable[[Any], int]
) -> Iterator[list[Any]]:
    """Yield pages of a stream, each by a statement of its own."""
    # Not with iterator(): outside of a transaction its cursor belongs to a session, and a pooler that
    # pools transactions gives that session to others. Drivers of MySQL would load all rows.
    page = list(rows.filter(version__gt=after)[:_PAGE])
    while page:
        yield page
        if len(page) < _PAGE:
            return
        page = list(rows.filter(version__gt=version_of(page[-1]))[:_PAGE])


def version(context: str | Context, stream: str) -> int:
    """Return the number of events in a stream; 0 if it does not exist."""
    home = _context(context)
    rows = StoredEvent.objects.using(home.database).filter(context=home.label, stream=stream)
    return rows.aggregate(last=Max("version"))["last"] or 0


def append_to_stream(
    connection: BaseDatabaseWrapper,
    rows: Sequence[statements.EventRow],
    stream: str,
    expected_version: int | None,
    layout: statements.Layout,
    *,
    in_outbox: bool = False,
) -> list[statements.Stored]:
    """Append rows to a stream in the caller's transaction; return time stamp and source of each.

    Where the source is the outbox, the caller must put them there afterwards: then the ids there
    are in the order of the versions. They are not sent from the stream.

    Arguments:
        layout: what the settings say of their context, where none is stored.
        in_outbox: they go to the outbox, whatever the source in force is.

    Raises:
        ConcurrencyError, DuplicateMessage: nothing was stored; the transaction is usable.
    """
    label, refused = rows[0].context, 0
    # The unique constraint on (context, stream, version) decides between two transactions: the later
    # one waits for the earlier one's commit, and finds its version taken.
    for _ in range(_RETRIES):
        last = statements.stream_version(connection, label, stream)
        if expected_version is not None and last != expected_version:
            _refuse_duplicate(connection, rows)
            raise ConcurrencyError(
                f"the stream {stream!r} of {label!r} is at version {last}, "
                f"and version {expected_version} was expected. Nothing was stored."
            )
        # Only MySQL locks here. All transactions that were refused a version share a lock on it: if one
        # of them asked for that lock alone, they would deadlock.
        if last != refused and not statements.lock_stream(connection, label, stream, last):
            continue
        places = [(stream, version) for version in range(last + 1, last + 1 + len(rows))]
        stored = statements.insert_stream(connection, rows, places, layout, in_outbox=in_outbox)
        if len(stored) == len(rows):
            return stored
        refused = last + 1
        if stored:
            # A part of the rows is stored. Their ids are new, since a caller's own id comes with one
            # event only, so what is deleted here was inserted by this very statement.
            statements.delete_rows(connection, "stream", rows)
        _refuse_duplicate(connection, rows)
    raise ConcurrencyError(
        f"the stream {stream!r} of {label!r} grew {_RETRIES} times in a row while "
        "this transaction tried to append to it. Nothing was stored."
    )


def append_each(
    connection: BaseDatabaseWrapper,
    rows: Sequence[statements.EventRow],
    layout: statements.Layout,
) -> list[statements.Stored]:
    """Append rows that belong to no stream, each as a stream of its own, named by its id.

    So they wait for no other transaction. ``layout`` and what is returned are as those of
    `append_to_stream`; raises `DuplicateMessage` as it does.
    """
    places = [(str(row.message_id), 1) for row in rows]
    stored = statements.insert_stream(connection, rows, places, layout)
    if len(stored) < len(rows):
        raise DuplicateMessage(f"the message {rows[0].message_id} has been recorded before")
    return stored


def problems_of(stream: object, expected_version: object) -> list[str]:
    """Return what is wrong with the arguments that name a stream."""
    problems = []
    if not isinstance(stream, str) or not 0 < len(stream) <= _MAX_STREAM:
        problems.append(f"stream must be text of 1 to {_MAX_STREAM} characters, not {stream!r}")
    elif (problem := codec.text_problem(stream)) is not None:
        problems.append(f"stream {stream!r} {problem}")
    number = expected_version if type(expected_version) is int else -1
    if expected_version is not None and number < 0:
        wanted = "a number from 0 up or None"
        problems.append(f"expected_version must be {wanted}, not {expected_version!r}")
    return problems


def _refuse_duplicate(connection: BaseDatabaseWrapper, rows: Sequence[statements.EventRow]) -> None:
    # A repeated call with the caller's own id has an old expected version, too. The caller must see that
    # the event was recorded before, and not that it has to decide again.
    ids = [row.message_id for row in rows]
    found = StoredEvent.objects.using(connection.alias).filter(context=rows[0].context)
    if found.filter(message_id__in=ids).exists():
        raise DuplicateMessage(f"the message {ids[0]} has been recorded before")


def _context(context: str | Context) -> Context:
    return contexts.get_context(context) if isinstance(context, str) else context


def recorded_event(context: Context, row: StoredEvent) -> RecordedEvent:
    """Return the event of a row of a context's stream; raises as `read`."""
    place = (row.stream, row.version)
    return RecordedEvent(
        event=_decode(context, row.type, row.schema_version, row.payload, place),
        version=row.version,
        position=row.position,
        envelope=envelope_of(connections[context.database], row, row.context, row.recorded_at),
    )


def _rows(context: Context, stream: str) -> QuerySet[StoredEvent]:
    rows = StoredEvent.objects.using(context.database).filter(context=context.label, stream=stream)
    return rows.order_by("version")


def _decode(
    context: Context, kind: str, schema_version: int, payload: str, place: tuple[str, int]
) -> DomainEvent | IntegrationEvent:
    cls = context.event_class(kind)
    if cls is None:
        stream, number = place
        raise UnreadableMessage(
            f"event {number} of the stream {stream!r} is a {kind!r}, and the context "
            f"{context.label!r} has no class of that name in this process: it was removed or renamed, "
            "or no module of the context imports its module (add it to ContextConfig.modules)"
        )
    return codec.decode(cls, payload, version=schema_version, upcasters=context.upcasters_of(cls))
