"""Keeps the read models of a context: reads on in its stream, and calls its projections.

Each read model has a subscription of its own. What is called with the events of a page, and how far
the subscription is, are one transaction. An event on which a projection fails is never passed over:
what comes before it is kept, and the subscription rests, longer each time, until it goes through.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from django.db import DatabaseError, InterfaceError, connections

from outbox_inbox.conf import faults, settings
from outbox_inbox.contexts import Consumer, Context, ReadModel
from outbox_inbox.events import codec
from outbox_inbox.events.envelope import Envelope
from outbox_inbox.exceptions import HandlerError
from outbox_inbox.projections import applying
from outbox_inbox.queues import announcements
from outbox_inbox.queues.outages import back_off
from outbox_inbox.queues.outcome import MoverCall, Outcome, ignore, never
from outbox_inbox.queues.statements import checkpoints, moved
from outbox_inbox.queues.statements.checkpoints import Stored
from outbox_inbox.queues.statements.dialects import as_uuid, as_uuid_or_none, aware

from .subscriptions import Cursor, follow


def update_projections(
    context: Context,
    *,
    limit: int | None = None,
    stop: Callable[[], bool] = never,
    progress: Callable[[int], None] = ignore,
    only: Collection[str] | None = None,
    seen: object = None,  # noqa: ARG001  what calls movers knows one way to call them
) -> Outcome:
    """Bring the read models of a context up to date with its stream.

    Each page is a transaction of its own on the context's database. May be called by any number of
    processes at once: each read model has one of them at a time.

    Arguments:
        limit: take in at most so many events; default: until all are up to date.
        stop: asked between pages; true ends the call.
        progress: told how many events each page had.
        only: names of read models; None (default) means all.
        seen: not used: a read model without news costs two statements.

    Returns:
        What was done; ``failed`` counts the read models that rest now after a failure.

    Raises:
        ContextMoved: the context is closed on this database.
        django.db.OperationalError: the database is out of reach; nothing is lost.
    """
    call = MoverCall(limit, stop, progress)
    if checkpoints.serves(connections[context.database]):
        for each in context.read_models.values():
            if not call.finished() and (only is None or each.name in only):
                _update(context, each, call)
    return call.outcome


def _update(context: Context, read_model: ReadModel, call: MoverCall) -> None:
    more = True
    while more and not call.finished():
        try:
            more = _take_page(context, read_model, call, call.batch_size())
        except Exception as error:
            raise_if_not_ours(context, error)
            _approach(context, read_model, call)
            return


def _approach(context: Context, read_model: ReadModel, call: MoverCall) -> None:
    """Take events in one at a time, up to the one that fails, and let the read model rest."""
    for _ in range(settings().batch_size):
        if call.finished():
            return
        met: list[Stored] = []
        try:
            if not _take_page(context, read_model, call, 1, met):
                return
        except Exception as error:
            raise_if_not_ours(context, error)
            _back_off(context, read_model, error, met)
            call.add(Outcome(failed=1))
            return


def _take_page(
    context: Context,
    read_model: ReadModel,
    call: MoverCall,
    size: int,
    met: list[Stored] | None = None,
) -> bool:
    """Take in one page in one transaction; false: there is no more, or none for us.

    Arguments:
        met: gets the events of the page, for whoever catches an error.
    """
    with follow(context, read_model.name) as cursor:
        if cursor is None:
            call.add(Outcome(busy=1))
            return False
        if cursor.paused or cursor.resting:
            return False
        rows = read_page(cursor, read_model, size)
        if met is not None:
            met += rows
        faults.point("project.after_read")
        deadline = monotonic() + settings().batch_time.total_seconds()
        last = apply(context, read_model, rows, until=lambda: monotonic() > deadline)
        if last is not None and last is not rows[-1]:
            cursor.keep(last)
        cursor.save()
        faults.point("project.before_commit")
    faults.point("project.after_commit")
    taken = 0 if last is None else rows.index(last) + 1
    call.add(Outcome(done=taken))
    return not cursor.caught_up


def read_page(cursor: Cursor, read_model: ReadModel, size: int) -> list[Stored]:
    """Read the next events for a read model, with no more of them than it asks for."""
    return cursor.read(size, read_model.by_type, bare=not read_model.takes_envelopes)


def place(row: Stored) -> str:
    """Return where an event is to be found: its stream, its position in all of them, its type."""
    return f"event {row.version} of the stream {row.stream!r}, position {row.position}, {row.type}"


def _back_off(
    context: Context, read_model: ReadModel, error: Exception, met: Sequence[Stored]
) -> None:
    with follow(context, read_model.name) as cursor:
        if cursor is None:
            return
        delay = back_off(cursor, error, detail=f" ({place(met[0])})" if met else "")
    announcements.projection_failed(context, read_model.name, error, delay)


def raise_if_not_ours(context: Context, error: Exception) -> None:
    """Raise an error that is no projection's: of the connection, or of a context that is moved."""
    if isinstance(error, DatabaseError):
        moved.explain(error)
    connection = connections[context.database]
    if isinstance(error, DatabaseError | InterfaceError) and not connection.is_usable():
        raise error


@dataclass(slots=True)
class _Invocation:
    """One call of a projection function, with its events."""

    consumer: Consumer
    rows: list[Stored]


def apply(
    context: Context,
    read_model: ReadModel,
    rows: Sequence[Stored],
    *,
    until: Callable[[], bool] = never,
) -> Stored | None:
    """Call the projections with events, in the caller's transaction; return the last one taken in.

    Arguments:
        until: asked after each call; true ends it early.

    Raises:
        UnreadableMessage, NewerVersion: a payload cannot be read as its event.
        HandlerError: a projection left its transaction unusable without an exception.
        Exception: whatever a projection raises.
    """
    last: Stored | None = None
    with applying(read_model.name):
        for invocation, complete in _invocations(read_model, rows):
            faults.point("project.before_apply")
            _invoke(context, invocation)
            faults.point("project.after_apply")
            if complete:
                last = invocation.rows[-1]
                if until():
                    break
    connection = connections[context.database]
    if connection.needs_rollback:
        raise HandlerError(
            f"the projection {read_model.name} left its transaction marked for rollback: it called "
            "set_rollback(), or caught a database error without a savepoint around it"
        )
    return last


def _invocations(
    read_model: ReadModel, rows: Sequence[Stored]
) -> Iterator[tuple[_Invocation, bool]]:
    """Yield the calls in order, and whether all that concerns their last event is done with it.

    What takes lists gets as many events as follow each other for it alone.
    """
    waiting: _Invocation | None = None
    if rows and len(read_model.consumers) == 1 and read_model.consumers[0].mode == "list":
        yield _Invocation(read_model.consumers[0], list(rows)), True
        return
    for row in rows:
        consumers = read_model.by_type[row.type]
        if waiting and len(consumers) == 1 and waiting.consumer is consumers[0]:
            waiting.rows.append(row)
            continue
        if waiting:
            yield waiting, True
            waiting = None
        if len(consumers) == 1 and consumers[0].mode == "list":
            waiting = _Invocation(consumers[0], [row])
            continue
        for consumer in consumers:
            yield _Invocation(consumer, [row]), consumer is consumers[-1]
    if waiting:
        yield waiting, True


def _invoke(context: Context, invocation: _Invocation) -> None:
    consumer, rows = invocation.consumer, invocation.rows
    several = consumer.mode == "list"
    events = list(_events(consumer, rows))
    event: Any = events if several else events[0]
    if consumer.takes_envelope:
        envelopes = [envelope(context, row) for row in rows]
        consumer.function(event, envelopes if several else envelopes[0])
    else:
        consumer.function(event)


def _events(consumer: Consumer, rows: Sequence[Stored]) -> Iterator[Any]:
    """Yield the events of rows, brought to their newest versions."""
    readers = {
        name: codec.own_reader(cls, consumer.upcasters_of(cls))
        for name, cls in consumer.events.items()
    }
    for row in rows:
        yield readers[row.type](row.payload or "", row.schema_version)


def envelope(context: Context, row: Stored) -> Envelope:
    """Return the envelope of a row."""
    return Envelope(
        id=as_uuid(row.message_id),
        type=row.type,
        version=row.schema_version,
        source=context.label,
        key=row.key,
        time=aware(connections[context.database], row.recorded_at),
        correlation_id=as_uuid(row.correlation_id),
        causation_id=as_uuid_or_none(row.causation_id),
        headers=codec.decode_headers(row.headers or "{}"),
        data=row.payload or "",
    )
