"""What happens to a row of either queue: ``model`` is OutboxMessage or Delivery.

Every UPDATE names the state that the row must have, and the caller reads from the count whether it
had: an operator may have discarded the row, or another worker may have finished it.
"""

from collections.abc import Sequence

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.models import OutboxMessage, table

from .common import DELIVERY, OUTBOX, change_rows, fetch_rows
from .dialects import dialect

_TIED = 10_000


def idle_state(model: type[models.Model]) -> str:
    """Return the state in which a row waits for its mover."""
    return "pending" if model is OutboxMessage else "ready"


def promote_due(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    context: str,
    partition: int,
    size: int,
) -> int:
    """Make rows available that have come due, the earliest first; return how many.

    They are about ``size``; of those that are due at the same instant, up to ten thousand more. What
    is left comes later: it is due later, or at the same instant with a higher id, so that no message
    overtakes an earlier one of its key.
    """
    sql, name = dialect(connection), table(model)
    due = f"m.state = '{idle_state(model)}' AND m.due_at IS NOT NULL"
    rows = (
        f"FROM {name} m{sql.forced_index(name)}"
        f" WHERE m.context = %s AND m.{sql.partition} = %s AND {due} AND m.due_at"
    )
    # The clock in a query of its own: otherwise it is compared with every row that waits.
    earliest = (
        f"SELECT m.id, m.due_at {rows} <= (SELECT {sql.now}) ORDER BY m.due_at LIMIT {size:d}"
    )
    found = fetch_rows(connection, earliest, [context, partition])
    ids = [id_ for id_, _ in found]
    if len(found) >= size:
        last = found[-1][1]
        # Not by the plain id, for which a planner would walk along the primary key.
        tied = f"SELECT m.id {rows} = %s ORDER BY m.id + 0 LIMIT {_TIED:d}"
        same = fetch_rows(connection, tied, [context, partition, last])
        ids = [*(id_ for id_, at in found if at != last), *(id_ for (id_,) in same)]
    if not ids:
        return 0
    return change_rows(
        connection,
        f"UPDATE {name}{sql.by_id} SET due_at = NULL WHERE id {sql.among}"
        f" AND state = '{idle_state(model)}' AND due_at IS NOT NULL",
        [sql.members(ids)],
    )


def park_followers(
    connection: BaseDatabaseWrapper, model: type[models.Model], ids: Sequence[int]
) -> int:
    """Set followers of a blocked head to wait (rules O3 and O6)."""
    # They leave the index of the rows that are read ahead: a backlog behind one blocked key costs the
    # next batches nothing.
    sql = dialect(connection)
    return change_rows(
        connection,
        f"UPDATE {table(model)}{sql.by_id} SET state = 'waiting'"
        f" WHERE id {sql.among} AND state = '{idle_state(model)}'",
        [sql.members(ids)],
    )


def count_attempt(connection: BaseDatabaseWrapper, model: type[models.Model], row: int) -> int:
    """Count an attempt of one row that is not finished, before it is made.

    The row has no error then: an attempt that is counted and has none was ended by a crash.
    """
    return change_rows(
        connection,
        f"UPDATE {table(model)} SET attempts = attempts + 1, error = ''"
        f" WHERE id = %s AND state = '{idle_state(model)}'",
        [row],
    )


def uncount_attempt(connection: BaseDatabaseWrapper, model: type[models.Model], row: int) -> int:
    """Take back an attempt that an outage or a conflict has ended.

    The row has an error then: without one it would look as if its worker had ended in it.
    """
    return change_rows(
        connection,
        f"UPDATE {table(model)} SET attempts = attempts - 1, error = %s"
        f" WHERE id = %s AND state = '{idle_state(model)}'",
        ["an outage or a conflict ended the last attempt, which is not counted", row],
    )


def mark_failed(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    row: int,
    *,
    attempts: int,
    holds: bool,
    error: str,
    seconds: float | None,
) -> int:
    """Store a failed attempt.

    ``holds``: later rows of its key wait for it. The next attempt follows after so many seconds;
    None: it was the last, and the row is dead.
    """
    sql = dialect(connection)
    end, due = f"state = 'dead', finished_at = {sql.now}", []
    if seconds is not None:
        end, due = f"due_at = {sql.later}", [seconds]
    return change_rows(
        connection,
        f"UPDATE {table(model)} SET attempts = %s, holds = %s, error = %s, {end}"
        f" WHERE id = %s AND state = '{idle_state(model)}'",
        [attempts, holds, error, *due, row],
    )


def unblock_messages(
    connection: BaseDatabaseWrapper, context: str, partition: int, keys: Sequence[str]
) -> int:
    """Set the followers of keys to be sent again, after their blocked head was solved."""
    sql = dialect(connection)
    where = f"context = %s AND {sql.partition} = %s AND state = 'waiting' AND {sql.key} {sql.among}"
    parameters = [context, partition, sql.members(keys)]
    return sql.update_rows(connection, OUTBOX, "state = 'pending'", where, parameters)


def unblock_deliveries(
    connection: BaseDatabaseWrapper, context: str, partition: int, pairs: Sequence[tuple[str, str]]
) -> int:
    """Do as `unblock_messages`, for the followers of pairs of a consumer and a key."""
    sql = dialect(connection)
    where = (
        f"context = %s AND {sql.partition} = %s AND state = 'waiting'"
        f" AND {sql.pair_condition(('consumer', sql.key), len(pairs))}"
    )
    parameters = [context, partition, *(value for pair in pairs for value in pair)]
    return sql.update_rows(connection, DELIVERY, "state = 'ready'", where, parameters)
