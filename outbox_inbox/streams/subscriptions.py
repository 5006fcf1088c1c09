"""Catch-up subscriptions: named readers of the stream of all events of a context.

A subscription has a checkpoint, which is saved in the transaction of the effects. One worker at a time
reads it: the one that holds the row lock of the checkpoint. It gets every event once, those of one
stream in the order of their versions; ``queues/statements/catch_up.py`` says how, whatever commits late.
"""

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from weakref import WeakKeyDictionary

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import ForeignCheckpoint
from outbox_inbox.models import Checkpoint, Kind
from outbox_inbox.queues.run import freeze_ms
from outbox_inbox.queues.statements import checkpoints, stream_pages
from outbox_inbox.queues.statements.carried import WHOLE, Reading
from outbox_inbox.queues.statements.catch_up import CheckpointProgress, catch_up, uses_snapshots
from outbox_inbox.queues.statements.dialects import as_datetime
from outbox_inbox.queues.statements.stream_pages import StreamRow

Begin = Literal["beginning", "now"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far a subscription is behind."""

    events: int
    """How many it must still handle."""
    since: datetime | None
    """When the first of them was recorded; None: it has caught up."""


class Cursor:
    """A subscription in one transaction, which holds its lock.

    Attributes:
        caught_up: the last page was the end of all that there was when it was read.
        paused: an operator has paused the subscription.
        resting: it failed, and the next try is not due yet.
        failures: failed tries in a row.
        left: the event before which the last page ended, since this process's code cannot read it.
    """

    def __init__(
        self, connection: BaseDatabaseWrapper, context: Context, lock: checkpoints.LockedCheckpoint
    ) -> None:
        self.connection = connection
        self.caught_up = False
        self.left: StreamRow | None = None
        self.paused, self.resting, self.failures = lock.paused, lock.resting, lock.failures
        self._context = context.label
        self._id = lock.id
        self._mark = self._saved = self._page = lock.progress

    def read(
        self,
        size: int,
        types: Collection[str] | None = None,
        *,
        also: str = "",
        unsent: bool = False,
        reading: Reading = WHOLE,
        bare: bool = False,
    ) -> list[StreamRow]:
        """Return the next events, in order; that they were read is not stored before `save`.

        Arguments:
            size: at most so many.
            types: stored type names; None (default) means all.
            also: a condition on columns of ``s`` that lets other types through.
            unsent: only those that are not in the outbox.
            reading: how payload and headers are read.
            bare: only stream, version, type and payload; the rest is None.
        """
        mark = self._mark
        fresh = mark.target is None
        if fresh:
            taken = catch_up(self.connection).take_target(self.connection, self._context, mark)
            if taken is None:
                self.caught_up = True
                return []
            mark = taken
        more = _conditions(types, also, unsent=unsent)
        rows = stream_pages.select_page(
            self.connection, self._context, mark, size, more, reading, bare=bare
        )
        short = len(rows) < size
        # Behind an older target there may be more: what was committed after that target was taken.
        self.caught_up = short and fresh
        self._page, self._mark = mark, _after(mark, rows, ended=short)
        return rows

    def end_page_at(self, row: StreamRow) -> None:
        """End the page that was read last with this event: the later ones are read again."""
        self.caught_up = False
        self._mark = self._page._replace(position=row.position)

    def leave_from(self, rows: list[StreamRow], place: int) -> list[StreamRow]:
        """End the page that was read last before one of its rows; return those in front of it."""
        self.left, front = rows[place], rows[:place]
        if front:
            self.end_page_at(front[-1])
        else:
            self.discard_progress()
        return front

    def save(self) -> None:
        """Write how far the subscription is, in the open transaction: that of the effects."""
        if self._mark != self._saved:
            checkpoints.save_progress(self.connection, self._id, self._mark)
            self._saved = self._mark

    def discard_progress(self) -> None:
        """Go back to what was saved last: the events since then are read again."""
        self._mark = self._saved

    def back_off(self, error: str, seconds: float) -> None:
        """Note a failure, in a transaction without effects: see `outages.back_off`."""
        checkpoints.back_off_checkpoint(self.connection, self._id, error, seconds)


def _conditions(
    types: Collection[str] | None, also: str = "", *, unsent: bool = False
) -> list[str]:
    more = [stream_pages.type_condition(sorted(types))] if types is not None else []
    if more and also:
        more = [f"({more[0]} OR {also})"]
    return [*more, "NOT s.in_outbox"] if unsent else more


def _after(
    mark: CheckpointProgress, rows: Sequence[StreamRow], *, ended: bool
) -> CheckpointProgress:
    if ended and mark.target is not None:
        return CheckpointProgress(mark.target, None, 0, 0, 0)
    return mark._replace(position=rows[-1].position) if rows else mark


@contextmanager
def follow(
    context: Context, subscription: str, *, begin: Begin = "beginning"
) -> Iterator[Cursor | None]:
    """Open a transaction that holds the lock of a subscription; None: another worker holds it.

    It is a transaction of its own: what an open transaction around it has recorded could not be read.

    Arguments:
        context: whose events; the transaction is on its database.
        subscription: the name, at most 200 characters.
        begin: where a new subscription begins.

    Raises:
        SettingsError: the database cannot serve subscriptions.
        ForeignCheckpoint: the database comes from a dump, and has not been rebased.
        RuntimeError: it is called within another transaction of that database.
    """
    with transaction.atomic(using=context.database, durable=True):
        yield open_cursor(connections[context.database], context, subscription, begin=begin)


def open_cursor(
    connection: BaseDatabaseWrapper,
    context: Context,
    subscription: str,
    *,
    begin: Begin = "beginning",
) -> Cursor | None:
    """Do what `follow` does, in the transaction that is open."""
    checkpoints.require_subscriptions(connection)
    place = (connection, context.label, subscription)
    lock = checkpoints.lock_checkpoint(*place, freeze_ms())
    if lock is None and not checkpoints.checkpoint_exists(*place):
        checkpoints.create_checkpoint(*place, from_now=begin == "now")
        lock = checkpoints.lock_checkpoint(*place, freeze_ms())
    if lock is None:
        return None
    _refuse_foreign(connection, context, subscription, lock)
    return Cursor(connection, context, lock)


_trusted: WeakKeyDictionary[Any, set[tuple[str, str]]] = WeakKeyDictionary()
"""Connection of a driver -> the checkpoints that are known to belong to its server."""


def _refuse_foreign(
    connection: BaseDatabaseWrapper,
    context: Context,
    subscription: str,
    lock: checkpoints.LockedCheckpoint,
) -> None:
    if not uses_snapshots(connection):
        return
    known = _trusted.setdefault(connection.connection, set())
    name = (context.label, subscription)
    if name in known:
        return
    if checkpoints.has_foreign_ids(connection, context.label, lock.cluster):
        raise ForeignCheckpoint(
            f"the stream of {context.label!r} or the checkpoint {subscription!r} comes from another "
            "PostgreSQL server, by a dump: run manage.py rebase_checkpoints before anything is "
            "recorded here"
        )
    known.add(name)


def behind(
    context: Context,
    subscription: str,
    types: Collection[str] | None = None,
    *,
    unsent: bool = False,
    kind: Kind | None = None,
    most: int | None = None,
) -> Lag:
    """Return how far a subscription is behind: by all events, if it has not begun.

    Arguments:
        types, unsent: as for `Cursor.read`.
        kind: only domain events, or only integration events.
        most: stop counting at so many, without reading the others; default: count all.
    """
    connection = connections[context.database]
    more = _conditions(types, unsent=unsent)
    if kind is not None:
        more.append(f"s.kind = '{kind.value}'")
    checkpoints.require_subscriptions(connection)
    place = (connection, context.label, subscription)
    events, since = stream_pages.count_unhandled(
        *place, sys.maxsize if most is None else most, more
    )
    return Lag(events=events, since=None if since is None else as_datetime(connection, since))


def delete_checkpoint(context: Context, subscription: str) -> bool:
    """Delete a checkpoint, in the open transaction if there is one; return whether it existed."""
    rows = Checkpoint.objects.using(context.database)
    found, _ = rows.filter(context=context.label, subscription=subscription).delete()
    return found > 0


_NO_FAILURE: dict[str, Any] = {"failures": 0, "error": "", "retry_at": None}


def rewind_checkpoint(context: Context, subscription: str) -> None:
    """Have a subscription begin anew with the first event, in the open transaction, under its lock."""
    rows = Checkpoint.objects.using(context.database).filter(context=context.label)
    beginning = catch_up(connections[context.database]).beginning
    start = CheckpointProgress(done=beginning, target=None, position=0, last=0, size=0)._asdict()
    rows.filter(subscription=subscription).update(**start, **_NO_FAILURE)


def take_over_checkpoint(context: Context, subscription: str, other: str) -> None:
    """Have a subscription go on where another one is, and delete the checkpoint of the other."""
    # In a transaction that holds the lock of both (`open_cursor`): a reader of either would otherwise
    # overwrite what is taken over.
    rows = Checkpoint.objects.using(context.database).filter(context=context.label)
    mark = rows.filter(subscription=other).values(*CheckpointProgress._fields).get()
    rows.filter(subscription=subscription).update(**mark, **_NO_FAILURE)
    rows.filter(subscription=other).delete()
