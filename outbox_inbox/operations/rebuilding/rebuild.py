"""Rebuild a read model: beside the one that people read, then in its place."""

from collections.abc import Callable
from dataclasses import dataclass

from django.db import connections, transaction

from outbox_inbox.conf import faults
from outbox_inbox.conf.section import suggestion
from outbox_inbox.contexts import Context, ReadModel, contexts
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import Checkpoint
from outbox_inbox.queues.outcome import ignore, never
from outbox_inbox.queues.statements import checkpoints
from outbox_inbox.streams.projecting import update_projections
from outbox_inbox.streams.subscriptions import behind, open_cursor, rewind_checkpoint

from .pages import BESIDE, Rebuild


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild came to.

    Fields:
        context, name: the read model.
        events: how many were taken in by this call.
        resumed: whether it went on where an earlier one was stopped.
        finished: whether the read model is rebuilt; False: it was stopped, and can go on.
    """

    context: str
    name: str
    events: int
    resumed: bool
    finished: bool


def find(name: str, chosen: Context | None = None) -> tuple[Context, ReadModel]:
    """Return the read model of this name, and its context.

    Arguments:
        chosen: the context; None (default): the only one that has it.

    Raises:
        OutboxInboxError: there is none, or several contexts have one.
    """
    among = contexts() if chosen is None else (chosen,)
    found = [(each, each.read_models[name]) for each in among if name in each.read_models]
    if not found:
        known = sorted({kept for each in among for kept in each.read_models})
        where = "" if chosen is None else f" in {chosen.label!r}"
        raise OutboxInboxError(f"there is no projection {name!r}{where}{suggestion(name, known)}")
    if len(found) > 1:
        labels = ", ".join(each.label for each, _ in found)
        raise OutboxInboxError(f"several contexts have a projection {name!r}, say which: {labels}")
    return found[0]


def lag(context: Context, read_model: ReadModel) -> int:
    """Return how many events a rebuild that begins, or goes on, has before it."""
    return behind(context, read_model.name + BESIDE, read_model.by_type).events


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

    Copies of its tables are filled while everybody reads the old rows, and the live projection goes
    on with them. At the end one transaction puts the new rows in their place. May be stopped at any
    moment, by a crash too, and called again: it goes on with what is there.

    Arguments:
        restart: throw away what an earlier call has left, as after a change of the projection.
        in_place: empty the read model and let it fill before everybody's eyes: the only way for one
            that has no models of its own.
        stop: asked between pages.
        progress: told how many events each page had.

    Raises:
        OutboxInboxError: it can only be rebuilt in place; another process is at it; copies cannot be
            made.
        SettingsError: the database cannot serve subscriptions.
        RebuildFailed: a projection failed on an event, which it names; its cause is what the
            projection raised. What comes before that event is kept for the next call, and the read
            model is as it was.
    """
    checkpoints.require_subscriptions(connections[context.database])
    if in_place:
        return _in_place(context, read_model, stop, progress)
    if not read_model.models:
        raise OutboxInboxError(
            f"the projection {read_model.name!r} has no models of its own, so nothing can be built "
            "beside it: rebuild it with --in-place, and its readers will see it grow"
        )
    work = Rebuild(context, read_model)
    resumed = work.begin(restart=restart)
    faults.point("rebuild.after_begin")
    events, finished = 0, False
    while not (finished or stop()):
        taken, caught_up = work.take_page()
        if caught_up:
            faults.point("rebuild.before_swap")
            more, finished = work.swap()
            faults.point("rebuild.after_swap")
            taken += more
        events += taken
        progress(taken)
    return Rebuilt(
        context=context.label,
        name=read_model.name,
        events=events,
        resumed=resumed,
        finished=finished,
    )


def _in_place(
    context: Context,
    read_model: ReadModel,
    stop: Callable[[], bool],
    progress: Callable[[int], None],
) -> Rebuilt:
    """Empty a read model, and let it begin anew; whoever keeps it up to date may help."""
    with transaction.atomic(using=context.database):
        cursor = open_cursor(connections[context.database], context, read_model.name)
        if cursor is None:
            raise OutboxInboxError(f"somebody is at work on {read_model.name!r}: try again")
        read_model.reset()
        rewind_checkpoint(context, read_model.name)
    outcome = update_projections(context, stop=stop, progress=progress, only=(read_model.name,))
    if outcome.failed:
        row = Checkpoint.objects.using(context.database).get(
            context=context.label, subscription=read_model.name
        )
        raise OutboxInboxError(
            f"the projection {read_model.name!r} failed: {row.error}. What comes before that event is "
            "taken in. Correct the projection: whoever keeps it up to date goes on with this event; "
            "or call the same command again, which begins anew"
        )
    left = behind(context, read_model.name, read_model.by_type).events
    return Rebuilt(
        context=context.label,
        name=read_model.name,
        events=outcome.done,
        resumed=False,
        finished=not left,
    )
