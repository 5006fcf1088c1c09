"""What both queues have: ``model`` is OutboxMessage or Delivery."""

from collections.abc import Sequence

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.models import OutboxMessage, table

from . import mysql
from .common import DELIVERY, OUTBOX, change
from .dialects import MySQL, dialect


def idle_state(model: type[models.Model]) -> str:
    """Return the state in which a row waits for its mover."""
    return "pending" if model is OutboxMessage else "ready"


def promote_due(
    connection: BaseDatabaseWrapper, model: type[models.Model], context: str, partition: int
) -> int:
    """Make rows available whose time has come, in the order of their ids."""
    say = dialect(connection)
    where = (
        f"context = %s AND {say.partition} = %s"
        f" AND state = '{idle_state(model)}' AND due_at <= {say.now}"
    )
    if isinstance(say, MySQL):
        return mysql.update(connection, table(model), "due_at = NULL", where, [context, partition])
    return change(
        connection, f"UPDATE {table(model)} SET due_at = NULL WHERE {where}", [context, partition]
    )


def park_followers(
    connection: BaseDatabaseWrapper, model: type[models.Model], ids: Sequence[int]
) -> int:
    """Let followers of a blocked head wait (rules O3 and O6)."""
    say = dialect(connection)
    return change(
        connection,
        f"UPDATE {table(model)}{say.by_id} SET state = 'waiting'"
        f" WHERE id {say.among} AND state = '{idle_state(model)}'",
        [say.members(ids)],
    )


def count_attempt(
    connection: BaseDatabaseWrapper, model: type[models.Model], row: int, by: int = 1
) -> int:
    """Change the number of attempts of one row that is still to be worked on."""
    return change(
        connection,
        f"UPDATE {table(model)} SET attempts = attempts + %s"
        f" WHERE id = %s AND state = '{idle_state(model)}'",
        [by, row],
    )


def back_off_row(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    row: int,
    *,
    attempts: int,
    holds: bool,
    error: str,
    seconds: float,
) -> int:
    """Store a failed attempt that will be followed by another."""
    say = dialect(connection)
    return change(
        connection,
        f"UPDATE {table(model)} SET attempts = %s, holds = %s, error = %s, due_at = {say.later}"
        f" WHERE id = %s AND state = '{idle_state(model)}'",
        [attempts, holds, error, seconds, row],
    )


def mark_dead(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    row: int,
    *,
    attempts: int,
    holds: bool,
    error: str,
) -> int:
    """Store the last failed attempt: the row is dead."""
    say = dialect(connection)
    return change(
        connection,
        f"UPDATE {table(model)} SET state = 'dead', attempts = %s, holds = %s, error = %s,"
        f" finished_at = {say.now} WHERE id = %s AND state = '{idle_state(model)}'",
        [attempts, holds, error, row],
    )


def unblock_messages(
    connection: BaseDatabaseWrapper, context: str, partition: int, keys: Sequence[str]
) -> int:
    """Let the followers of keys go whose blocked head is solved."""
    say = dialect(connection)
    where = f"context = %s AND {say.partition} = %s AND state = 'waiting' AND {say.key} {say.among}"
    parameters = [context, partition, say.members(keys)]
    if isinstance(say, MySQL):
        return mysql.update(connection, OUTBOX, "state = 'pending'", where, parameters)
    return change(connection, f"UPDATE {OUTBOX} SET state = 'pending' WHERE {where}", parameters)


def unblock_deliveries(
    connection: BaseDatabaseWrapper,
    context: str,
    partition: int,
    pairs: Sequence[tuple[str, str]],
) -> int:
    """Let the followers of (consumer, key) pairs go whose blocked head is solved."""
    say = dialect(connection)
    if isinstance(say, MySQL):
        return mysql.unblock_deliveries(connection, say, context, partition, pairs)
    chosen = ", ".join(["(%s, %s)"] * len(pairs))
    return change(
        connection,
        f"UPDATE {DELIVERY} SET state = 'ready' WHERE context = %s AND partition = %s"
        f" AND state = 'waiting' AND (consumer, key) IN (VALUES {chosen})",
        [context, partition, *(value for pair in pairs for value in pair)],
    )
