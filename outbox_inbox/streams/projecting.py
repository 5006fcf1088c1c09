"""Keeps the read models of a context up to date: reads on in its stream, and calls its projections.

Each read model has a subscription of its own. The effects of a page and the checkpoint are committed in
one transaction: otherwise a crash between the two would apply events twice, or skip them. An event on
which a projection fails is never skipped. What comes before it is committed, and the subscription backs
off, longer with each failure, until the event goes through.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from django.db import DatabaseError, InterfaceError, connections

from outbox_inbox.conf import faults, settings
from outbox_inbox.conf.clock import monotonic
from outbox_inbox.contexts import Consumer, Context, ReadModel
from outbox_inbox.events import codec
from outbox_inbox.projections import applying
from outbox_inbox.queues import announcements, statements
from outbox_inbox.queues.blame import close_refusing, outage_behind
from outbox_inbox.queues.calls import begin_call
from outbox_inbox.queues.envelopes import envelope_of
from outbox_inbox.queues.outages import back_off
from outbox_inbox.queues.outcome import MoverCall, Outcome, ignore, never
from outbox_inbox.queues.run import ends_worker
from outbox_inbox.queues.statements import checkpoints, moved
from outbox_inbox.queues.statements.dialects import gave_way
from outbox_inbox.queues.statements.dialects.refusals import is_contention
from outbox_inbox.queues.statements.stream_pages import StreamRow
from outbox_inbox.queues.watch import call_watched
from outbox_inbox.signals.logging import get_logger

from .subscriptions import Cursor, follow

_logger = get_logger("outbox_inbox.streams")


def update_projections(
    context: Context,
    *,
    limit: int | None = None,
    stop: Callable[[], bool] = never,
    progress: Callable[[int], None] = ignore,
    only: Collection[str] | None = None,
    seen: object = None,
    once: bool = False,
) -> Outcome:
    """Bring the read models of a context up to date with its stream.

    Each page is a transaction of its own on the context's database. May be called by any number of
    processes at once: each read model has one of them at a time.

    Arguments:
        limit: apply at most so many events; default: until all are up to date.
        stop: asked between pages; true ends the call.
        progress: called with how many events each page had.
        only: names of read models; None (default) means all.
        seen, once: either given: each read model has one turn only; the caller calls again.

    Returns:
        What was done; ``failed`` counts the read models that back off now.

    Raises:
        ContextMoved: the context is closed on this database.
        django.db.OperationalError: the database is out of reach; nothing is lost.
    """
    call = begin_call(context, limit, stop, progress)
    if checkpoints.supports_subscriptions(connections[context.database]):
        for each in context.read_models.values():
            if not call.ended() and (only is None or each.name in only):
                if once or seen is not None:
                    call.begin_turn()
                _update_read_model(context, each, call)
    return call.outcome


def _update_read_model(context: Context, read_model: ReadModel, call: MoverCall) -> None:
    more = True
    while more and not call.finished():
        try:
            more = _apply_page(context, read_model, call, call.batch_size())
        except Exception as error:
            if ends_worker(error):
                raise
            if not _gave_way(context, error, call):
                raise_database_failure(context, error)
                if not _is_outage(context, read_model, error, call):
                    _stop_before_failing_event(context, read_model, call)
            return


def _stop_before_failing_event(context: Context, read_model: ReadModel, call: MoverCall) -> None:
    """Apply events one at a time, up to the one that fails, and back off."""
    for _ in range(settings().batch_size):
        if call.finished():
            return
        met: list[StreamRow] = []
        try:
            if not _apply_page(context, read_model, call, 1, met):
                return
        except Exception as error:
            if ends_worker(error):
                raise
            if not _gave_way(context, error, call):
                raise_database_failure(context, error)
                if not _is_outage(context, read_model, error, call):
                    _back_off(context, read_model, error, met)
                    call.add(Outcome(failed=1))
            return


def _is_outage(context: Context, read_model: ReadModel, error: Exception, call: MoverCall) -> bool:
    """Back off without blaming an event, if the context's database refuses what every event needs.

    Raises:
        django.db.Error: the same error; the database refuses to note it, or it was only a wait.
    """
    connection = connections[context.database]
    outage = outage_behind(connection, error)
    if outage is None:
        return False
    if is_contention(connection, outage):
        raise outage
    try:
        _back_off(context, read_model, outage, ())
    except DatabaseError:
        raise outage from None
    finally:
        close_refusing(connection, outage)
    call.add(Outcome(failed=1))
    return True


def _gave_way(context: Context, error: Exception, call: MoverCall) -> bool:
    """Return whether the database ended the page for another transaction; it is read again later."""
    found = gave_way(connections[context.database], error, waited=False)
    if found:
        call.add(Outcome(busy=1))
    return found


def _apply_page(
    context: Context,
    read_model: ReadModel,
    call: MoverCall,
    size: int,
    met: list[StreamRow] | None = None,
) -> bool:
    """Apply one page in one transaction; return whether there is more for this call.

    ``met`` gets the events of the page; the caller names them when it catches an error.
    """
    with follow(context, read_model.name) as cursor:
        if cursor is None:
            call.add(Outcome(busy=1))
            return False
        if cursor.paused or cursor.resting:
            return False
        rows = read_page(cursor, read_model, size)
        if cursor.left and not rows:
            _leave_to_others(read_model, cursor.left)
            return False
        if met is not None:
            met += rows
        faults.point("project.after_read")
        deadline = monotonic() + settings().batch_time.total_seconds()
        last = apply_projections(context, read_model, rows, until=lambda: monotonic() > deadline)
        if last is not None and last is not rows[-1]:
            cursor.end_page_at(last)
        # In the transaction of the effects: a crash undoes both.
        cursor.save()
        faults.point("project.before_commit")
    faults.point("project.after_commit")
    applied = 0 if last is None else rows.index(last) + 1
    call.add(Outcome(done=applied))
    return not cursor.caught_up


def read_page(cursor: Cursor, read_model: ReadModel, size: int) -> list[StreamRow]:
    """Read the next events for a read model, without the columns that it does not need.

    The page ends before an event that the read model wants, by what the database knows, and this
    process's code does not have. To pass over it would leave it out for ever (``cursor.left``).
    """
    also = statements.projected_condition(read_model.label, read_model.name)
    rows = cursor.read(size, read_model.by_type, also=also, bare=not read_model.takes_envelopes)
    known = read_model.versions
    for place, row in enumerate(rows):
        if row.schema_version > known.get(row.type, 0):
            return cursor.leave_from(rows, place)
    return rows


_told: set[tuple[str, str, str, int]] = set()


def _leave_to_others(read_model: ReadModel, row: StreamRow) -> None:
    """Say once that an event waits for a process of newer code."""
    what = (read_model.label, read_model.name, row.type, row.schema_version)
    if what not in _told:
        _told.add(what)
        _logger.warning(
            "%s: the read model '%s' wants %s of version %d, which the code of this process cannot "
            "apply; it is left to a process that can. If none will, run manage.py retire_consumer",
            *what,
        )


def place_of_event(row: StreamRow) -> str:
    """Return where an event is, for an operator."""
    return f"event {row.version} of the stream {row.stream!r}, position {row.position}, {row.type}"


def _back_off(
    context: Context, read_model: ReadModel, error: Exception, met: Sequence[StreamRow]
) -> None:
    with follow(context, read_model.name) as cursor:
        if cursor is None:
            return
        delay = back_off(cursor, error, detail=f" ({place_of_event(met[0])})" if met else "")
    announcements.projection_failed(context, read_model.name, error, delay)


def raise_database_failure(context: Context, error: Exception) -> None:
    """Raise an error that a projection cannot cause: a lost connection, or a context that has moved."""
    if isinstance(error, DatabaseError):
        moved.explain_refusal(error)
    connection = connections[context.database]
    if isinstance(error, DatabaseError | InterfaceError) and not connection.is_usable():
        raise error


_Invocation = tuple[Consumer, list[StreamRow]]
"""One call of a projection function, with its events."""


def apply_projections(
    context: Context,
    read_model: ReadModel,
    rows: Sequence[StreamRow],
    *,
    until: Callable[[], bool] = never,
) -> StreamRow | None:
    """Call the projections with events, in the caller's transaction; return the last event applied.

    Arguments:
        until: asked after each call; true ends it early.

    Raises:
        HandlerError: a projection left its transaction unusable without an exception.
        Exception: whatever a projection raises; or a payload cannot be read as its event.
    """

    def apply() -> StreamRow | None:
        last: StreamRow | None = None
        with applying(read_model.name):
            for (consumer, taken), complete in _invocations(read_model, rows):
                faults.point("project.before_apply")
                _invoke(context, consumer, taken)
                faults.point("project.after_apply")
                if complete:
                    last = taken[-1]
                    if until():
                        break
        return last

    return call_watched(connections[context.database], f"the projection {read_model.name}", apply)


def _invocations(
    read_model: ReadModel, rows: Sequence[StreamRow]
) -> Iterator[tuple[_Invocation, bool]]:
    """Yield the calls in order, and whether each completes its last event for all projections."""
    # A projection that takes lists gets all events in a row that only it takes.
    waiting: _Invocation | None = None
    if rows and len(read_model.consumers) == 1 and read_model.consumers[0].mode == "list":
        yield (read_model.consumers[0], list(rows)), True
        return
    for row in rows:
        consumers = read_model.by_type[row.type]
        alone = consumers[0] if len(consumers) == 1 else None
        if waiting and waiting[0] is alone:
            waiting[1].append(row)
            continue
        if waiting:
            yield waiting, True
            waiting = None
        if alone and alone.mode == "list":
            waiting = (alone, [row])
            continue
        for consumer in consumers:
            yield (consumer, [row]), consumer is consumers[-1]
    if waiting:
        yield waiting, True


def _invoke(context: Context, consumer: Consumer, rows: Sequence[StreamRow]) -> None:
    several = consumer.mode == "list"
    events = list(_events(consumer, rows))
    event: Any = events if several else events[0]
    function = consumer.functions[0]
    if function.takes_envelope:
        connection = connections[context.database]
        envelopes = [envelope_of(connection, row, context.label, row.recorded_at) for row in rows]
        function.call(event, envelopes if several else envelopes[0])
    else:
        function.call(event)


def _events(consumer: Consumer, rows: Sequence[StreamRow]) -> Iterator[Any]:
    """Yield the events of rows, brought to their newest versions."""
    readers = {
        name: codec.own_reader(cls, consumer.upcasters_of(cls))
        for name, cls in consumer.events.items()
    }
    for row in rows:
        yield readers[row.type](row.payload or "", row.schema_version)
