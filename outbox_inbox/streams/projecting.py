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
from outbox_inbox.exceptions import HandlerError
from outbox_inbox.projections import applying
from outbox_inbox.queues import announcing
from outbox_inbox.queues.attempts import describe
from outbox_inbox.queues.envelopes import envelope_of
from outbox_inbox.queues.outcome import Outcome, Tally, ignore, never
from outbox_inbox.queues.statements import checkpoints, moved
from outbox_inbox.queues.statements.stream_pages import StreamRow

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
    tally = Tally(limit, stop, progress)
    if checkpoints.supports_subscriptions(connections[context.database]):
        for each in context.read_models.values():
            if not tally.finished() and (only is None or each.name in only):
                _update(context, each, tally)
    return tally.outcome


def _update(context: Context, read_model: ReadModel, tally: Tally) -> None:
    more = True
    while more and not tally.finished():
        try:
            more = _take_page(context, read_model, tally, tally.size())
        except Exception as error:
            raise_if_not_ours(context, error)
            _approach(context, read_model, tally)
            return


def _approach(context: Context, read_model: ReadModel, tally: Tally) -> None:
    """Take events in one at a time, up to the one that fails, and let the read model rest."""
    for _ in range(settings().batch_size):
        if tally.finished():
            return
        met: list[StreamRow] = []
        try:
            if not _take_page(context, read_model, tally, 1, met):
                return
        except Exception as error:
            raise_if_not_ours(context, error)
            _rest(context, read_model, error, met)
            tally.add(Outcome(failed=1))
            return


def _take_page(
    context: Context,
    read_model: ReadModel,
    tally: Tally,
    size: int,
    met: list[StreamRow] | None = None,
) -> bool:
    """Take in one page in one transaction; false: there is no more, or none for us.

    Arguments:
        met: gets the events of the page, for whoever catches an error.
    """
    with follow(context, read_model.name) as cursor:
        if cursor is None:
            tally.add(Outcome(busy=1))
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
    tally.add(Outcome(done=taken))
    return not cursor.caught_up


def read_page(cursor: Cursor, read_model: ReadModel, size: int) -> list[StreamRow]:
    """Read the next events for a read model, with no more of them than it asks for."""
    return cursor.read(size, read_model.by_type, bare=not read_model.takes_envelopes)


def place(row: StreamRow) -> str:
    """Return where an event is to be found: its stream, its position in all of them, its type."""
    return f"event {row.version} of the stream {row.stream!r}, position {row.position}, {row.type}"


def _rest(
    context: Context, read_model: ReadModel, error: Exception, met: Sequence[StreamRow]
) -> None:
    with follow(context, read_model.name) as cursor:
        if cursor is None:
            return
        delay = settings().backoff.delay(cursor.failures + 1)
        where = f" ({place(met[0])})" if met else ""
        cursor.rest(f"{describe(error)}{where}", delay.total_seconds())
    announcing.projection_failed(context, read_model.name, error, delay)


def raise_if_not_ours(context: Context, error: Exception) -> None:
    """Raise an error that is no projection's: of the connection, or of a context that is moved."""
    if isinstance(error, DatabaseError):
        moved.explain_refusal(error)
    connection = connections[context.database]
    if isinstance(error, DatabaseError | InterfaceError) and not connection.is_usable():
        raise error


@dataclass(slots=True)
class _Call:
    """One call of a projection, with the events it is for."""

    consumer: Consumer
    rows: list[StreamRow]


def apply(
    context: Context,
    read_model: ReadModel,
    rows: Sequence[StreamRow],
    *,
    until: Callable[[], bool] = never,
) -> StreamRow | None:
    """Call the projections with events, in the caller's transaction; return the last one taken in.

    Arguments:
        until: asked after each call; true ends it early.

    Raises:
        UnreadableMessage, NewerVersion: a payload cannot be read as its event.
        HandlerError: a projection left its transaction unusable without an exception.
        Exception: whatever a projection raises.
    """
    last: StreamRow | None = None
    with applying(read_model.name):
        for call, complete in _calls(read_model, rows):
            faults.point("project.before_apply")
            _call(context, call)
            faults.point("project.after_apply")
            if complete:
                last = call.rows[-1]
                if until():
                    break
    connection = connections[context.database]
    if connection.needs_rollback:
        raise HandlerError(
            f"the projection {read_model.name} left its transaction marked for rollback: it called "
            "set_rollback(), or caught a database error without a savepoint around it"
        )
    return last


def _calls(read_model: ReadModel, rows: Sequence[StreamRow]) -> Iterator[tuple[_Call, bool]]:
    """Yield the calls in order, and whether all that concerns their last event is done with it.

    What takes lists gets as many events as follow each other for it alone.
    """
    waiting: _Call | None = None
    if rows and len(read_model.consumers) == 1 and read_model.consumers[0].mode == "list":
        yield _Call(read_model.consumers[0], list(rows)), True
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
            waiting = _Call(consumers[0], [row])
            continue
        for consumer in consumers:
            yield _Call(consumer, [row]), consumer is consumers[-1]
    if waiting:
        yield waiting, True


def _call(context: Context, call: _Call) -> None:
    consumer, several = call.consumer, call.consumer.mode == "list"
    events = list(_events(consumer, call.rows))
    event: Any = events if several else events[0]
    if consumer.takes_envelope:
        connection = connections[context.database]
        envelopes = [
            envelope_of(connection, row, context.label, row.recorded_at) for row in call.rows
        ]
        consumer.function(event, envelopes if several else envelopes[0])
    else:
        consumer.function(event)


def _events(consumer: Consumer, rows: Sequence[StreamRow]) -> Iterator[Any]:
    """Yield the events of rows, brought to their newest versions."""
    readers = {
        name: codec.own_reader(cls, consumer.upcasters_of(cls))
        for name, cls in consumer.events.items()
    }
    for row in rows:
        yield readers[row.type](row.payload or "", row.schema_version)
