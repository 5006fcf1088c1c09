"""The lock of a partition, and the token of the run that works on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from . import mysql
from .common import PARTITION, change, fetch
from .dialects import Dialect, MySQL, dialect

SILENCE = 2.0
"""Seconds without a sign of life after which a run that nobody ended is taken for crashed.

Who works on a partition is settled by its lock alone. This only says how soon others assume a
crash while a partition is free, so that they leave it to a worker that is between two transactions.
"""


class LockedPartition(NamedTuple):
    """A partition row of which this transaction has the lock."""

    paused: bool
    run: Any


def lock_partition(
    connection: BaseDatabaseWrapper, partition: int, freeze_ms: int, *, free: bool = False
) -> LockedPartition | None:
    """Take a partition's row lock; None: somebody else has it.

    ``free``: only if nobody is at work there, in a transaction or between two. Who is must not
    find the row locked by somebody who had but a look.

    SQLite has no row locks. There the first statement of the transaction is a write, which takes
    the database's only write lock, also where transactions do not begin with IMMEDIATE.
    """
    say = dialect(connection)
    where = "WHERE id = %s" + (f" AND {_free(say)}" if free else "")
    silence = [-SILENCE] if free else []
    if free and isinstance(say, MySQL):
        # InnoDB locks a row to find out that it does not fit, and unlocks it again.
        look = f"SELECT 1 FROM {PARTITION} {where}"
        if not fetch(connection, look, [partition, *silence]):
            return None
    if say.skip_locked:
        rows = fetch(
            connection,
            f"SELECT paused, run, {say.freeze_guard} FROM {PARTITION} {where} {say.skip_locked}",
            [str(freeze_ms), partition, *silence],
        )
    else:
        rows = fetch(
            connection,
            f"UPDATE {PARTITION} SET number = number {where} RETURNING paused, run",
            [partition, *silence],
        )
    return LockedPartition(bool(rows[0][0]), rows[0][1]) if rows else None


def begin_run(connection: BaseDatabaseWrapper, partition: int, run: Any) -> LockedPartition | None:
    """Do as `lock_partition` with ``free``, and `set_run`, in one statement; PostgreSQL only.

    Outside of a transaction it is one trip instead of four. Held has the run from before.
    """
    say = dialect(connection)
    rows = fetch(
        connection,
        f"WITH held AS (SELECT id, run FROM {PARTITION} WHERE id = %s AND {_free(say)}"
        f" {say.skip_locked}) UPDATE {PARTITION} p SET run = %s, last_run_at = {say.now}"
        " FROM held WHERE p.id = held.id RETURNING held.run",
        [partition, -SILENCE, run],
    )
    return LockedPartition(paused=False, run=rows[0][0]) if rows else None


def _free(say: Dialect) -> str:
    """Return the condition that nobody is at work on a partition, nor between two transactions."""
    return f"NOT paused AND (run IS NULL OR last_run_at IS NULL OR last_run_at <= {say.later})"


@contextmanager
def guarded_session(connection: BaseDatabaseWrapper, freeze_ms: int) -> Iterator[None]:
    """Have MariaDB and MySQL throw out this session, within the block, when it freezes.

    They know no such limit for one transaction, as PostgreSQL does with every lock taken.
    """
    say = dialect(connection)
    if not isinstance(say, MySQL):
        yield
        return
    session = connection.connection
    mysql.guard_session(connection, say, freeze_ms)
    try:
        yield
    finally:
        # Another session never had the limit, and a broken one has none any more.
        if connection.connection is session and connection.is_usable():
            mysql.unguard_session(connection, say)


def set_run(connection: BaseDatabaseWrapper, partition: int, run: Any) -> None:
    """Write who is at work on a partition now, or (None) that it was left with a clean end."""
    say = dialect(connection)
    change(
        connection,
        f"UPDATE {PARTITION} SET run = %s, last_run_at = {say.now} WHERE id = %s",
        [say.uuid(run), partition],
    )


def end_run(connection: BaseDatabaseWrapper, partition: int, run: Any) -> None:
    """Take away a token, unless it is another's by now; waits for who has the lock for a moment."""
    say = dialect(connection)
    change(
        connection,
        f"UPDATE {PARTITION} SET run = NULL, last_run_at = {say.now} WHERE id = %s AND run = %s",
        [partition, say.uuid(run)],
    )


def back_off_partition(
    connection: BaseDatabaseWrapper, partition: int, error: str, seconds: float
) -> None:
    """End a run with an outage: the partition rests for so many seconds."""
    say = dialect(connection)
    change(
        connection,
        f"UPDATE {PARTITION} SET run = NULL, outages = outages + 1, error = %s,"
        f" retry_at = {say.later} WHERE id = %s",
        [error, seconds, partition],
    )


def clear_outage(connection: BaseDatabaseWrapper, partition: int) -> None:
    """Forget an outage that is over."""
    change(
        connection,
        f"UPDATE {PARTITION} SET outages = 0, error = '', retry_at = NULL WHERE id = %s",
        [partition],
    )
