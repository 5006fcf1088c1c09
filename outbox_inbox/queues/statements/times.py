"""Stored times that lie further ahead than they can: the clock was put back since they were written.

After a failover the database may be on a server whose clock is behind. What is stored as "not before"
would then have its partition, row or subscription stand still until the clock has come up to it. So a
back-off counts only as far as it can be long. Messages that are scheduled (``at=``) keep their time.
"""

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf import settings
from outbox_inbox.models import table

from .common import PARTITION, change_rows, fetch_rows
from .dialects import dialect
from .dialects.base import SILENCE
from .states import idle_state

LEFT = 5.0
"""Seconds after which a process looks again at what it has left to a process of newer code."""

_MANY = 10_000  # scheduled messages among which a back-off is looked for at a time
_ALL = 2**62


def longest_pause(failures: int = 0) -> float:
    """Return how many seconds the end of a back-off can be ahead; 0 failures: after any number."""
    backoff = settings().backoff
    pause = backoff.longest(failures) if failures else backoff.maximum
    return max(pause.total_seconds(), LEFT) + SILENCE


def is_resting(left: Any, failures: int) -> bool:
    """Return whether a back-off is not over; ``left``: the seconds until its end, or None."""
    return left is not None and 0 < left <= longest_pause(failures)


def bring_back(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    context: str,
    partition: int,
    *,
    put_back: bool,
) -> int:
    """Make rows of a partition available whose back-off ends too far ahead; return how many.

    In a transaction that holds the lock of the partition. ``put_back``: the clock is known to have been
    put back, so all that is due later is looked at. Otherwise only what is further ahead than any
    back-off, and at most ten thousand rows.
    """
    sql, name = dialect(connection), table(model)
    after, most = (SILENCE, _ALL) if put_back else (longest_pause(), _MANY)
    found = fetch_rows(
        connection,
        f"SELECT l.id, l.attempts, {sql.seconds_until('l.due_at')} FROM ("
        f"SELECT m.id, m.attempts, m.due_at, m.error <> '' AS failed FROM {name} m{sql.forced_index(name)}"
        f" WHERE {sql.in_partition('m')} AND m.state = '{idle_state(model)}'"
        f" AND m.due_at IS NOT NULL AND m.due_at > (SELECT {sql.shifted(after)})"
        f" ORDER BY {sql.partition_order('m', 'due_at')} LIMIT {most:d}) l"
        # What was never tried is scheduled. One that was left to newer code has an error, and no attempt.
        " WHERE l.attempts > 0 OR l.failed",
        sql.partition_values(context, partition),
    )
    strays = [id_ for id_, attempts, left in found if left > longest_pause(max(attempts, 1))]
    if not strays:
        return 0
    return change_rows(
        connection,
        f"UPDATE {name}{sql.by_id} SET due_at = NULL WHERE id {sql.among}"
        f" AND state = '{idle_state(model)}' AND due_at IS NOT NULL",
        [sql.members(strays)],
    )


def restart(connection: BaseDatabaseWrapper, partition: int) -> None:
    """Write the time of a run on a partition anew, after `bring_back`: see `Dialect.run_time`."""
    sql = dialect(connection)
    change_rows(
        connection, f"UPDATE {PARTITION} SET last_run_at = {sql.now} WHERE id = %s", [partition]
    )
