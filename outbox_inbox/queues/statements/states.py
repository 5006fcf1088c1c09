"""What happens to a row of either queue: ``model`` is OutboxMessage or Delivery.

Every UPDATE names the state that the row must have, and the caller reads from the count whether it
had: an operator may have discarded the row, or another worker may have finished it.
"""

from collections.abc import Sequence

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.models import OutboxMessage, table

from .common import DELIVERY, OUTBOX, change_rows
from .dialects import dialect


def idle_state(model: type[models.Model]) -> str:
    """Return the state in which a row waits for its mover."""
    return "pending" if model is OutboxMessage else "ready"


def promote_due(
    connection: BaseDatabaseWrapper, model: type[models.Model], context: str, partition: int
) -> int:
    """Make the rows available that have come due, in the order of their ids."""
    sql = dialect(connection)
    where = (
        f"context = %s AND {sql.partition} = %s"
        f" AND state = '{idle_state(model)}' AND due_at <= {sql.now}"
    )
    return sql.update_rows(connection, table(model), "due_at = NULL", where, [context, partition])


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


def count_attempt(
    connection: BaseDatabaseWrapper, model: type[models.Model], row: int, by: int = 1
) -> int:
    """Change the number of attempts of one row that is not finished.

    It has no error then: an attempt that is counted and has none was ended by a crash.
    """
    return change_rows(
        connection,
        f"UPDATE {table(model)} SET attempts = attempts + %s, error = ''"
        f" WHERE id = %s AND state = '{idle_state(model)}'",
        [by, row],
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
