"""Rebuild a read model: in copies of its tables, which then replace the live rows.

Rebuilt in place instead, a read model would be incomplete for its readers until the end.
"""

from collections.abc import Callable
from dataclasses import dataclass

from django.db import connections, transaction

from outbox_inbox.conf import faults
from outbox_inbox.conf.section import suggestion
from outbox_inbox.contexts import Context, ReadModel, contexts
from outbox_inbox.exceptions import OutboxInboxError, UnknownName
from outbox_inbox.models import Checkpoint
from outbox_inbox.projections import Projection
from outbox_inbox.queues.outcome import ignore, never
from outbox_inbox.queues.statements import checkpoints
from outbox_inbox.queues.statements.moved import refusals_explained
from outbox_inbox.streams.projecting import update_projections
from outbox_inbox.streams.subscriptions import behind, open_cursor, rewind_checkpoint

from .pages import REBUILD_SUFFIX, Rebuild
from .references import has_rows, references_to
from .shadow_tables import shadow_of


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The result of a rebuild.

    Fields:
        events: how many were handled by this call.
        resumed: whether it continued an earlier call that was stopped.
        finished: whether the read model is rebuilt; False: it was stopped, and can be continued.
    """

    context: str
    name: str
    events: int
    resumed: bool
    finished: bool


def find_read_model(name: str, chosen: Context | None = None) -> tuple[Context, ReadModel]:
    """Return the read model of this name, and its context.

    Arguments:
        chosen: the context; None (default): the only one that has it.

    Raises:
        UnknownName: no context has one, or several have.
    """
    among = contexts() if chosen is None else (chosen,)
    found = [(each, each.read_models[name]) for each in among if name in each.read_models]
    if not found:
        known = sorted({other for each in among for other in each.read_models})
        where = "" if chosen is None else f" in {chosen.label!r}"
        raise UnknownName(f"there is no projection {name!r}{where}{suggestion(name, known)}")
    if len(found) > 1:
        labels = ", ".join(each.label for each, _ in found)
        raise UnknownName(f"several contexts have a projection {name!r}, choose one: {labels}")
    return found[0]


def rebuild_lag(context: Context, read_model: ReadModel) -> int:
    """Return how many events a rebuild that begins or continues has still to handle."""
    return behind(context, read_model.name + REBUILD_SUFFIX, read_model.by_type).events


@refusals_explained()
def rebuild(
    context: Context,
    read_model: ReadModel,
    *,
    restart: bool = False,
    in_place: bool = False,
    stop: Callable[[], bool] = never,
    progress: Callable[[int], None] = ignore,
) -> Rebuilt:
    """Rebuild a read model from the first event of its context's stream.

    Copies of its tables are filled while readers see the old rows and the live projection updates
    them. At the end one transaction replaces the old rows by the new ones. May be stopped at any
    moment, by a crash too, and called again: it continues with the copies that exist.

    Arguments:
        restart: discard the copies of an earlier call, as after a change of the projection.
        in_place: empty the read model and fill it again while it is read: the only way for one that
            has no models of its own.
        stop: called between pages; true ends the call.
        progress: called with the number of events of each page.

    Raises:
        OutboxInboxError: it can only be rebuilt in place; another process is rebuilding it; the
            copies cannot be created.
        ContextMoved: the context is closed on this database.
        SettingsError: the database cannot serve subscriptions.
        RebuildFailed: the projection failed on an event, which the error names; its cause is what
            the projection raised. The next call continues with that event, and the live read model
            is unchanged.
    """
    checkpoints.require_subscriptions(connections[context.database])
    if in_place:
        return _rebuild_in_place(context, read_model, stop, progress)
    if not read_model.models:
        raise OutboxInboxError(
            f"the projection {read_model.name!r} has no models of its own, so it cannot be rebuilt "
            "in copies: rebuild it with --in-place, and its readers will see it grow"
        )
    under_way = Rebuild(context, read_model)
    resumed = under_way.begin(restart=restart)
    faults.point("rebuild.after_begin")
    events, finished = 0, False
    while not (finished or stop()):
        handled, caught_up = under_way.handle_page()
        if caught_up:
            faults.point("rebuild.before_swap")
            more, finished = under_way.swap()
            faults.point("rebuild.after_swap")
            handled += more
        events += handled
        progress(handled)
    return Rebuilt(context.label, read_model.name, events, resumed, finished)


def _refuse_references(context: Context, read_model: ReadModel) -> None:
    """Raise an error if emptying a read model would delete rows of other tables."""
    projection = read_model.projection
    if projection is not None and type(projection).reset is not Projection.reset:
        return
    shadow = shadow_of(connections[context.database], read_model.models)
    for model in read_model.models:
        for each in references_to(shadow, model):
            if has_rows(shadow, each):
                raise OutboxInboxError(
                    f"rows of {each.table} refer to the read model {read_model.name!r}, and to empty it "
                    "would delete them or break their references: rebuild it without --in-place"
                )


def _rebuild_in_place(
    context: Context,
    read_model: ReadModel,
    stop: Callable[[], bool],
    progress: Callable[[int], None],
) -> Rebuilt:
    """Empty a read model and update it from the first event; other workers may update it as well."""
    with transaction.atomic(using=context.database):
        _refuse_references(context, read_model)
        connection = connections[context.database]
        cursor = open_cursor(connection, context, read_model.name, replaced=True)
        if cursor is None:
            raise OutboxInboxError(f"a worker is updating {read_model.name!r}: try again")
        read_model.reset()
        rewind_checkpoint(context, read_model.name)
    outcome = update_projections(context, stop=stop, progress=progress, only=(read_model.name,))
    if outcome.failed:
        row = Checkpoint.objects.using(context.database).get(
            context=context.label, subscription=read_model.name
        )
        raise OutboxInboxError(
            f"the projection {read_model.name!r} failed: {row.error}. The events before that one are "
            "handled. Correct the projection: the workers that update it continue with this event; "
            "or call the same command again, which begins with the first event"
        )
    finished = not behind(context, read_model.name, read_model.by_type).events
    return Rebuilt(context.label, read_model.name, outcome.done, False, finished)
