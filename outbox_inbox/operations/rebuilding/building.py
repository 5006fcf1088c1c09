"""Rebuild a read model: beside the one that people read, then in its place."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import IntegrityError, connections, transaction

from outbox_inbox import cursors, faults
from outbox_inbox.contexts import Context, ReadModel, contexts
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.projecting import apply, read_page, update_projections
from outbox_inbox.subscriptions import Cursor, behind, follow, open_cursor, rewind, take_over
from outbox_inbox.tally import ignore, never
from outbox_inbox.validation import suggestion

from .shadow import Shadow, shadow_of

BESIDE = " (rebuild)"
"""Ends the name of the subscription that fills the copies; no name that a user gives has spaces."""

_PAGE = 5_000  # events of a transaction
_PATIENCE = 30.0  # seconds to wait for those who are at work on the read model


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
        Exception: whatever a projection raises; the read model is as it was.
    """
    cursors.require(connections[context.database])
    if in_place:
        return _in_place(context, read_model, stop, progress)
    if not read_model.models:
        raise OutboxInboxError(
            f"the projection {read_model.name!r} has no models of its own, so nothing can be built "
            "beside it: rebuild it with --in-place, and its readers will see it grow"
        )
    work = _Rebuild(context, read_model)
    resumed = work.begin(restart=restart)
    faults.point("rebuild.after_begin")
    events, caught_up = 0, False
    while not (caught_up or stop()):
        taken, caught_up = work.take_page()
        events += taken
        progress(taken)
    if caught_up:
        faults.point("rebuild.before_swap")
        taken = work.swap()
        faults.point("rebuild.after_swap")
        events += taken
        progress(taken)
    return Rebuilt(
        context=context.label,
        name=read_model.name,
        events=events,
        resumed=resumed,
        finished=caught_up,
    )


class _Rebuild:
    """The rebuild of one read model, a transaction a step."""

    def __init__(self, context: Context, read_model: ReadModel) -> None:
        self.context, self.read_model = context, read_model
        self.connection = connections[context.database]
        self.shadow: Shadow = shadow_of(self.connection, read_model.models)
        self.name = read_model.name + BESIDE

    def begin(self, *, restart: bool) -> bool:
        """Make the copies, unless they are there; tell whether they were."""
        with self._locked(self.name):
            there = self.shadow.exists()
            if there and not restart:
                return True
            self.shadow.drop()
            self.shadow.make()
            rewind(self.context, self.name)
            return False

    def take_page(self) -> tuple[int, bool]:
        """Take in one page; return how many events it had, and whether it was the last."""
        with self._locked(self.name) as cursor:
            taken = self._read(cursor)
            cursor.save()
            faults.point("project.before_commit")
        faults.point("project.after_commit")
        return taken, cursor.caught_up

    def swap(self) -> int:
        """Take in what is left, and put the new rows in the place of the old ones."""
        placing = False
        try:
            with self._locked(self.name) as cursor:
                live = self._live()
                taken = self._read(cursor)
                while not cursor.caught_up:
                    taken += self._read(cursor)
                cursor.save()
                live.save()
                placing = True
                self.shadow.swap()
                take_over(self.context, self.read_model.name, self.name)
                self.shadow.drop()
        except IntegrityError as error:  # at COMMIT, too: references are deferred
            if placing:
                raise self.shadow.broken_reference(error) from error
            raise
        return taken

    def _read(self, cursor: Cursor) -> int:
        with _uncollected():
            rows = read_page(cursor, self.read_model, _PAGE)
            faults.point("project.after_read")
            if rows:
                with self.shadow.entered():
                    apply(self.context, self.read_model, rows)
            return len(rows)

    def _live(self) -> Cursor:
        """Take the lock of the live read model, in the open transaction; wait for who has it."""
        deadline = time.monotonic() + _PATIENCE
        while (found := open_cursor(self.connection, self.context, self.read_model.name)) is None:
            if time.monotonic() > deadline:
                raise OutboxInboxError(
                    f"somebody has been at work on {self.read_model.name!r} for {_PATIENCE:.0f} s: "
                    "call the command again, which goes on from here"
                )
            time.sleep(0.02)
        return found

    @contextmanager
    def _locked(self, name: str) -> Iterator[Cursor]:
        with follow(self.context, name) as cursor:
            if cursor is None:
                raise OutboxInboxError(
                    f"another process is rebuilding {self.read_model.name!r} just now"
                )
            yield cursor


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the collector of cycles away from a page: it takes as long as all the rest.

    Events have no cycles, and thousands of them at once look to it like garbage to be searched.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


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
        rewind(context, read_model.name)
    outcome = update_projections(context, stop=stop, progress=progress, only=(read_model.name,))
    left = behind(context, read_model.name, read_model.by_type).events
    return Rebuilt(
        context=context.label,
        name=read_model.name,
        events=outcome.done,
        resumed=False,
        finished=not left,
    )
