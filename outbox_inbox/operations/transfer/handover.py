"""A hand-over from its beginning to its end: what the command calls."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from outbox_inbox.conf import faults
from outbox_inbox.exceptions import TransferRefused
from outbox_inbox.models import Transfer, TransferState
from outbox_inbox.queues.outcome import ignore

from .abort import abort_handover, clean_old_side
from .comparing import Advance, compare, copy_ahead
from .route import NEW_SIDE, Route, route_of
from .steps import begin, close, finish, open_

Show = Callable[[str, int | None], AbstractContextManager[Advance]]
"""Takes the title of a phase and its number of rows; yields what is told about progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedTable:
    """One table of a hand-over.

    Fields:
        table: its name.
        rows: how many rows of the context the old side has.
        differences: how many are missing, different or too many on the new side.
        checksum: of the rows as they were compared; "" when they were not.
    """

    table: str
    rows: int
    differences: int = 0
    checksum: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """How far a hand-over is.

    Fields:
        context: label of the context.
        old, new: aliases of the two databases.
        state: of the new side; None: it has not begun.
        copied: rows that were copied while everything went on.
        changed: rows that had to be changed once the old side was closed.
        tables: what moves.
    """

    context: str
    old: str
    new: str
    state: str | None
    copied: int = 0
    changed: int = 0
    tables: list[MovedTable] = field(default_factory=list)

    @property
    def differences(self) -> int:
        """Rows that are not the same on both sides."""
        return sum(each.differences for each in self.tables)


@contextmanager
def _quietly(_title: str, _total: int | None) -> Iterator[Advance]:
    yield ignore


def transfer(
    label: str, to: str, *, old: str | None = None, hold: bool = False, show: Show = _quietly
) -> Handover:
    """Hand a living context over to another database; go on with what has begun.

    The rows are copied while everything goes on. Then the old side is closed, what has changed
    meanwhile is copied, both sides are compared, and the new side is opened. May be stopped at any
    moment, by a crash too, and called again; called once more at the end it changes nothing.

    Arguments:
        label: the context.
        to: alias of the new database.
        old: alias of the old one; default: see `ways.way`.
        hold: stop before the new side is opened: `abort` is possible until then.
        show: shows the progress of each phase.

    Raises:
        NotAContext, TransferRefused: nothing was changed that a second call would not go on with.
    """
    on_way = route_of(label, to, old)
    begin(on_way)
    copied = changed = 0
    if _state(on_way) != TransferState.OPEN:
        if on_way.there is None:
            copied = _copy(on_way, show)
        close(on_way)
        with show("Closing", _count(on_way)) as advance:
            changed = finish(on_way, advance)
        _verify(on_way, show)
    if not hold:
        open_(on_way)
    return _report(on_way, _verified(on_way), copied=copied, changed=changed)


def plan(label: str, to: str, *, old: str | None = None) -> Handover:
    """Return what would be moved, and change nothing; raises as `transfer` at its beginning."""
    on_way = route_of(label, to, old)
    tables = [
        MovedTable(table=each.name, rows=each.rows(on_way.old).count()) for each in on_way.tables()
    ]
    return _report(on_way, tables)


def verify(label: str, to: str, *, old: str | None = None, show: Show = _quietly) -> Handover:
    """Compare every row on both sides, and change nothing.

    Once the new side is open the two go apart; then the result of before is returned.
    """
    on_way = route_of(label, to, old)
    if _state(on_way) is None:
        raise TransferRefused(f"no hand-over of {label!r} to {to!r} has begun")
    if _state(on_way) == TransferState.OPEN:
        return _report(on_way, _verified(on_way))
    return _report(on_way, _compare(on_way, show))


def abort(label: str, to: str, *, old: str | None = None) -> bool:
    """Take a hand-over back that was not opened; False: there was none."""
    return abort_handover(route_of(label, to, old))


def clean(label: str, to: str, *, old: str | None = None, show: Show = _quietly) -> int:
    """Delete the rows that the context has left on its old database; return how many."""
    on_way = route_of(label, to, old)
    with show("Cleaning", None) as advance:
        return clean_old_side(on_way, advance)


def _copy(on_way: Route, show: Show) -> int:
    with show("Copying", _count(on_way)) as advance:
        copied = sum(
            copy_ahead(each, on_way.label, on_way.old, on_way.new, advance)
            for each in on_way.tables()
        )
    faults.point("transfer.after_copy")
    return copied


def _verify(on_way: Route, show: Show) -> None:
    found = _compare(on_way, show)
    wrong = [f"{each.table} ({each.differences})" for each in found if each.differences]
    if wrong:
        raise TransferRefused(
            f"the two sides differ in {', '.join(wrong)}: somebody deletes rows on "
            f"{on_way.old!r}, or writes past the guard. The context is closed on both; find out "
            "who it is and run the same command again, or take it back with --abort"
        )
    here = on_way.here
    if here is not None:
        details = here.details | {"verified": [[x.table, x.rows, x.checksum] for x in found]}
        Transfer.objects.using(on_way.new).filter(pk=here.pk).update(details=details)


def _compare(on_way: Route, show: Show) -> list[MovedTable]:
    found = []
    with show("Verifying", _count(on_way)) as advance:
        for table in on_way.tables():
            difference = compare(table, on_way.old, on_way.new, advance)
            found.append(
                MovedTable(
                    table=table.name,
                    rows=difference.rows,
                    differences=difference.total,
                    checksum=difference.checksum,
                )
            )
    return found


def _verified(on_way: Route) -> list[MovedTable]:
    here = on_way.here
    rows: list[Any] = here.details.get("verified", []) if here else []
    return [MovedTable(table=name, rows=count, checksum=digest) for name, count, digest in rows]


def _count(on_way: Route) -> int:
    return sum(each.rows(on_way.old).count() for each in on_way.tables())


def _state(on_way: Route) -> str | None:
    here = on_way.here
    return here.state if here is not None and here.state in NEW_SIDE else None


def _report(on_way: Route, tables: list[MovedTable], **counts: int) -> Handover:
    return Handover(
        context=on_way.label,
        old=on_way.old,
        new=on_way.new,
        state=_state(on_way),
        tables=tables,
        **counts,
    )
