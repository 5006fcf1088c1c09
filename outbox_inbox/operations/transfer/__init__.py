"""Transfer: move a living context to another database, with its tables and its queues.

Every function takes the context's label, the new database, and optionally the old one: the default
of the latter is explained at `route.route_of`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from outbox_inbox.conf import faults
from outbox_inbox.exceptions import TransferRefused
from outbox_inbox.models import Transfer, TransferState
from outbox_inbox.queues.outcome import ignore

from .abort import delete_old_rows, return_to_old_side
from .comparing import Advance, compare_table, copy_missing
from .route import NEW_SIDE_STATES, Route, route_of
from .steps import begin_transfer, close_old_side, finish_copy, open_new_side

ShowPhase = Callable[[str, int | None], AbstractContextManager[Advance]]
"""Takes the title of a phase and its number of rows; yields what is called with its progress."""


@dataclass(frozen=True, slots=True)
class TableReport:
    """One table of a transfer.

    Fields:
        rows: how many rows of the context the old side has.
        differences: how many are missing, different or too many on the new side.
        checksum: of the rows as they were compared; "" when they were not.
    """

    table: str
    rows: int
    differences: int = 0
    checksum: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferReport:
    """How far a transfer is.

    Fields:
        old, new: aliases of the two databases.
        state: of the new side; None: it has not begun.
        copied: rows that were copied while the context went on.
        changed: rows that had to be changed once the old side was closed.
        tables: what moves.
    """

    context: str
    old: str
    new: str
    state: str | None
    copied: int = 0
    changed: int = 0
    tables: list[TableReport] = field(default_factory=list)

    @property
    def differences(self) -> int:
        """Rows that are not the same on both sides."""
        return sum(each.differences for each in self.tables)


@contextmanager
def _show_nothing(_title: str, _total: int | None) -> Iterator[Advance]:
    yield ignore


def transfer(
    label: str,
    to: str,
    *,
    old: str | None = None,
    hold: bool = False,
    show: ShowPhase = _show_nothing,
) -> TransferReport:
    """Transfer a living context to another database, or continue a transfer that has begun.

    The rows are copied while the context goes on. Then the old side is closed, the changes made
    meanwhile are copied, both sides are compared, and the new side is opened. May be stopped at
    any moment, by a crash too, and called again; called once more at the end it changes nothing.

    Arguments:
        hold: stop before the new side is opened: `abort_transfer` is possible until then.
        show: shows the progress of each phase.

    Raises:
        NotAContext, TransferRefused: what was changed until then, a second call continues.
    """
    route = route_of(label, to, old)
    begin_transfer(route)
    copied = changed = 0
    if _state(route) != TransferState.OPEN:
        if route.old_side is None:
            with show("Copying", _row_count(route)) as advance:
                sides = label, route.old, route.new, advance
                copied = sum(copy_missing(each, *sides) for each in route.tables())
            faults.point("transfer.after_copy")
        close_old_side(route)
        with show("Closing", _row_count(route)) as advance:
            changed = finish_copy(route, advance)
        _verify_copy(route, show)
    if not hold:
        open_new_side(route)
    return _report(route, _verified_tables(route), copied=copied, changed=changed)


def plan_transfer(label: str, to: str, *, old: str | None = None) -> TransferReport:
    """Return what would be moved, and change nothing; raises as `transfer` at its beginning."""
    route = route_of(label, to, old)
    counted = [TableReport(each.name, each.rows(route.old).count()) for each in route.tables()]
    return _report(route, counted)


def verify_transfer(
    label: str, to: str, *, old: str | None = None, show: ShowPhase = _show_nothing
) -> TransferReport:
    """Compare every row on both sides, and change nothing.

    Once the new side is open the sides diverge; then the result from before is returned.
    """
    route = route_of(label, to, old)
    state = _state(route)
    if state is None:
        raise TransferRefused(f"no transfer of {label!r} to {to!r} has begun")
    opened = state == TransferState.OPEN
    return _report(route, _verified_tables(route) if opened else _compare_tables(route, show))


def abort_transfer(label: str, to: str, *, old: str | None = None) -> bool:
    """Abort a transfer whose new side is not open yet; False: there was nothing to abort."""
    return return_to_old_side(route_of(label, to, old))


def clean_old_side(
    label: str, to: str, *, old: str | None = None, show: ShowPhase = _show_nothing
) -> int:
    """Delete the rows that the context has left on its old database; return how many."""
    route = route_of(label, to, old)
    with show("Cleaning", None) as advance:
        return delete_old_rows(route, advance)


def _verify_copy(route: Route, show: ShowPhase) -> None:
    found = _compare_tables(route, show)
    wrong = [f"{each.table} ({each.differences})" for each in found if each.differences]
    if wrong:
        # Opened now, the context would have lost rows without a trace.
        raise TransferRefused(
            f"the two sides differ in {', '.join(wrong)}: another program deletes rows on "
            f"{route.old!r}, or bypasses the guards. The context is closed on both sides; stop that "
            "program and run the same command again, or abort the transfer with --abort"
        )
    if new_side := route.new_side:
        details = new_side.details | {"verified": [[x.table, x.rows, x.checksum] for x in found]}
        Transfer.objects.using(route.new).filter(pk=new_side.pk).update(details=details)


def _compare_tables(route: Route, show: ShowPhase) -> list[TableReport]:
    with show("Verifying", _row_count(route)) as advance:
        found = [
            (each.name, compare_table(each, route.old, route.new, advance))
            for each in route.tables()
        ]
    return [TableReport(name, each.rows, each.total, each.checksum) for name, each in found]


def _verified_tables(route: Route) -> list[TableReport]:
    new_side = route.new_side
    rows: list[Any] = new_side.details.get("verified", []) if new_side else []
    return [TableReport(name, count, checksum=digest) for name, count, digest in rows]


def _row_count(route: Route) -> int:
    return sum(each.rows(route.old).count() for each in route.tables())


def _state(route: Route) -> str | None:
    new_side = route.new_side
    return new_side.state if new_side is not None and new_side.state in NEW_SIDE_STATES else None


def _report(route: Route, tables: list[TableReport], **counts: int) -> TransferReport:
    return TransferReport(
        context=route.label,
        old=route.old,
        new=route.new,
        state=_state(route),
        tables=tables,
        **counts,
    )
