"""The lock of a partition, and the token of the run that works on it.

Without the lock two workers would send or handle the messages of one key at the same time. Without
the token a worker could not know, after its commit, that another has been on the partition since.
"""

from typing import Any, NamedTuple
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from .common import PARTITION, change_rows, positions_change
from .dialects import as_uuid, dialect
from .dialects.base import SILENCE

_TOKENS = 2**64  # the tokens of runs are random UUIDs, which have a version and so are all greater


class LockedPartition(NamedTuple):
    """A row of the table of partitions that is locked by this transaction."""

    paused: bool
    run: Any
    positions: str = ""
    put_back: bool = False
    """The clock was put back since the run before."""


def lock_partition(
    connection: BaseDatabaseWrapper, partition: int, freeze_ms: int
) -> LockedPartition | None:
    """Take a partition's row lock; None: another transaction has it. See `Dialect.lock_row`."""
    rows = dialect(connection).lock_row(
        connection, "paused, run", PARTITION, "WHERE id = %s", [partition], freeze_ms
    )
    return LockedPartition(bool(rows[0][0]), rows[0][1]) if rows else None


def begin_run(
    connection: BaseDatabaseWrapper, partition: int, run: Any, freeze_ms: int
) -> LockedPartition | None:
    """Write the token of a run, in a transaction of its own; None: the partition is not free.

    What is returned has the token from before, of a run that crashed, or None; and how far the
    transport was read or published to.
    """
    rows = dialect(connection).begin_run(connection, partition, run, freeze_ms)
    if not rows:
        return None
    token, positions, put_back = rows[0][:3]
    return LockedPartition(False, token, positions, bool(put_back))


def end_run(
    connection: BaseDatabaseWrapper,
    partition: int,
    run: Any,
    *,
    careful: int = 0,
    positions: str | None = None,
) -> None:
    """Remove the token of a run, without its lock; waits for the transaction that has it.

    ``careful``: leave in its place, for the next run, how many messages are still to be taken one at
    a time (`careful_left`); that run may begin at once. ``positions``: how far the transport was read
    or published to; None: as before.
    """
    sql = dialect(connection)
    left = sql.uuid(UUID(int=careful)) if careful else None
    at = sql.run_time(-SILENCE if careful else 0.0)
    moved, parameters = positions_change(positions)
    # Another worker may have taken this run for crashed and written its own token, which must stay:
    # without it that worker would give up, and a crash of it would not be noticed.
    change_rows(
        connection,
        f"UPDATE {PARTITION} SET run = %s, last_run_at = {at}{moved} WHERE id = %s AND run = %s",
        [left, *parameters, partition, sql.uuid(run)],
    )


def careful_left(run: Any) -> int | None:
    """Return how many messages an ended run left to be taken one at a time; None: it was not ended."""
    left = as_uuid(run).int
    return left if left < _TOKENS else None


def back_off_partition(
    connection: BaseDatabaseWrapper,
    partition: int,
    error: str,
    seconds: float,
    positions: str | None = None,
) -> None:
    """End a run with an outage: no worker tries the partition again for so many seconds.

    ``positions`` is as that of `end_run`.
    """
    sql = dialect(connection)
    moved, parameters = positions_change(positions)
    change_rows(
        connection,
        f"UPDATE {PARTITION} SET run = NULL, outages = outages + 1, error = %s,"
        f" retry_at = {sql.later}{moved} WHERE id = %s",
        [error, seconds, *parameters, partition],
    )


def clear_outage(connection: BaseDatabaseWrapper, partition: int) -> None:
    """Remove an outage that is over."""
    change_rows(
        connection,
        f"UPDATE {PARTITION} SET outages = 0, error = '', retry_at = NULL WHERE id = %s",
        [partition],
    )
