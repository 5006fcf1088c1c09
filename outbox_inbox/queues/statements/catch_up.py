"""How a subscription finds what is new in a stream, while other transactions write to it.

"After the last position" loses events: a transaction may commit position 7 after position 8 has
been read. To wait for every open transaction would lose none, and would let one that takes its
time, whatever it does, stop all subscriptions. There is one class for each way that does neither.
"""

from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from .common import STREAM, fetch_rows
from .dialects import dialect_class

Query = tuple[str, list[Any]]
"""A statement and its parameters."""

_FEW = 10_000  # new events that are looked up one by one rather than met on a walk


class CheckpointProgress(NamedTuple):
    """How far a subscription has read: the columns of the table of checkpoints that move."""

    done: str
    target: str | None
    position: int
    last: int
    size: int


class ByPosition:
    """SQLite: positions are given out under its only write lock, so the last one says it all.

    Also PostgreSQL within a ``TestCase``: everything is one transaction there, of which no snapshot
    has seen anything; and no other transaction writes.

    Attributes:
        beginning: what ``done`` is before the first event.
        waiting: the condition that there are new events for the checkpoint ``c``.
        unhandled: the condition that the checkpoint ``c`` has the event ``s`` still before it, for a
            walk over all events.
    """

    beginning = ""
    unhandled = "s.position > c.position"
    waiting = f"EXISTS (SELECT 1 FROM {STREAM} s WHERE s.context = c.context AND {unhandled})"

    def new_checkpoint(self, *, from_now: bool) -> str:
        """Return done, position and cluster of a new checkpoint ``c``, in SQL."""
        last = f"SELECT COALESCE(MAX(s.position), 0) FROM {STREAM} s WHERE s.context = c.context"
        return f"'', ({last}), ''" if from_now else "'', 0, ''"

    def take_target(
        self, connection: BaseDatabaseWrapper, context: str, progress: CheckpointProgress
    ) -> CheckpointProgress | None:
        """Return the progress as it is: every page is the whole of a set."""
        return progress

    def page(
        self, columns: str, context: str, progress: CheckpointProgress, more: str, size: int
    ) -> Query:
        """Return the query for the next events behind the position, with more conditions."""
        statement = (
            f"SELECT {columns} FROM {STREAM} s WHERE s.context = %s AND s.position > %s{more}"
            f"{_PAGE}"
        )
        return statement, [context, progress.position, size]

    def rest(
        self, columns: str, context: str, progress: CheckpointProgress, more: str, size: int
    ) -> list[Query]:
        """Return the queries for all events that are not handled, up to so many of each."""
        return [self.page(columns, context, progress, more, size)]


_PAGE = " ORDER BY s.position LIMIT %s"
_BEYOND = "s.xid >= pg_snapshot_xmax({0}::pg_snapshot)"
_AMONG = "s.xid = ANY(ARRAY(SELECT pg_snapshot_xip({0}::pg_snapshot)))"
_TAKEN = (
    "NOT (c.target IS NOT NULL AND s.position <= c.position"
    " AND pg_visible_in_snapshot(s.xid, c.target::pg_snapshot))"
)
_SOME = f"EXISTS (SELECT 1 FROM {STREAM} s WHERE s.context = c.context AND {{}})"

CLUSTER = "(SELECT system_identifier::text FROM pg_control_system())"


class BySnapshots(ByPosition):
    """PostgreSQL: what is new is the difference of two snapshots.

    ``done`` is a snapshot whose events have all been handled, ``target`` a later one that is being
    worked off, in order of position. Rows carry the id of the transaction that wrote them
    (``xid``), with an index on (context, xid, position). The set between the two snapshots is
    fixed, so no late commit can get in behind the position that was read last: it belongs to the
    next target. And a snapshot never holds a later commit without an earlier one that it waited
    for, so the events of a stream come in the order of their versions, whatever the order of
    transaction ids.
    """

    beginning = "1:1:"  # it has seen nothing: no transaction has an id below 3
    unhandled = f"NOT pg_visible_in_snapshot(s.xid, c.done::pg_snapshot) AND {_TAKEN}"
    waiting = (
        f"c.target IS NOT NULL OR {_SOME.format(_BEYOND.format('c.done'))}"
        f" OR {_SOME.format(_AMONG.format('c.done'))}"
    )

    def new_checkpoint(self, *, from_now: bool) -> str:
        """Return a snapshot that has seen nothing, or everything that is committed."""
        done = "pg_current_snapshot()::text" if from_now else f"'{self.beginning}'"
        return f"{done}, 0, {CLUSTER}"

    def take_target(
        self, connection: BaseDatabaseWrapper, context: str, progress: CheckpointProgress
    ) -> CheckpointProgress | None:
        """Return the progress with the next set to be worked off; None: there is nothing new."""
        done = progress.done
        if done == self.beginning:
            # All events are new: to count them would take long and say nothing.
            statement = (
                f"SELECT pg_current_snapshot()::text, 0, MAX(position), {_FEW + 1}"
                f" * (MAX(position) IS NOT NULL)::int FROM {STREAM}"
            )
            parameters = []
        else:
            # The count keeps PostgreSQL from walking along the primary key to the lowest position.
            statement = (
                "SELECT pg_current_snapshot()::text, MIN(position) - 1, MAX(position), COUNT(*)"
                f" FROM ({_NEW_POSITIONS}) n"
            )
            parameters = [context, done, context, done]
        ((target, before, last, size),) = fetch_rows(connection, statement, parameters)
        return CheckpointProgress(done, target, before, last, size) if size else None

    def page(
        self, columns: str, context: str, progress: CheckpointProgress, more: str, size: int
    ) -> Query:
        """Return the query for the next events of the target behind the position."""
        done, target, position, last, count = progress
        if count > _FEW:  # walk along the primary key, up to the last one of the target
            statement = (
                f"SELECT {columns} FROM {STREAM} s WHERE s.context = %s AND s.position > %s"
                " AND s.position <= %s AND pg_visible_in_snapshot(s.xid, %s::pg_snapshot)"
                f" AND NOT pg_visible_in_snapshot(s.xid, %s::pg_snapshot){more}{_PAGE}"
            )
            return statement, [context, position, last, target, done, size]
        # Between few new events there may be millions of others: look them up by transaction.
        statement = (
            f"WITH new AS MATERIALIZED ({_NEW_POSITIONS})"
            f" SELECT {columns} FROM new JOIN {STREAM} s ON s.position = new.position"
            " WHERE s.position > %s AND s.position <= %s"
            f" AND pg_visible_in_snapshot(s.xid, %s::pg_snapshot){more}{_PAGE}"
        )
        return statement, [context, done, context, done, position, last, target, size]

    def rest(
        self, columns: str, context: str, progress: CheckpointProgress, more: str, size: int
    ) -> list[Query]:
        """Return the queries for what is left of the target, and for what no snapshot has seen."""
        events = f"SELECT {columns} FROM {STREAM} s WHERE s.context = %s AND {{}}{more}"
        seen = progress.done if progress.target is None else progress.target
        newer = [
            (f"{events.format(condition)} ORDER BY s.xid LIMIT %s", [context, seen, size])
            for condition in (_BEYOND.format("%s"), _AMONG.format("%s"))
        ]
        if progress.target is None:
            return newer
        return [self.page(columns, context, progress, more, size), *newer]


_POSITION = f"SELECT position FROM {STREAM} s WHERE s.context = %s AND "
# The events of a context that a snapshot has not seen.
_NEW_POSITIONS = f"{_POSITION}{_BEYOND.format('%s')} UNION ALL {_POSITION}{_AMONG.format('%s')}"
_BY_POSITION, _BY_SNAPSHOTS = ByPosition(), BySnapshots()


def uses_snapshots(connection: BaseDatabaseWrapper) -> bool:
    """Return whether snapshots say what is new on a connection; otherwise positions do."""
    if not dialect_class(connection).has_snapshots:
        return False
    blocks: list[Any] = connection.atomic_blocks
    return not (blocks and getattr(blocks[0], "_from_testcase", False))


def catch_up(connection: BaseDatabaseWrapper) -> ByPosition:
    """Return the way in which what is new is found on a connection."""
    return _BY_SNAPSHOTS if uses_snapshots(connection) else _BY_POSITION
