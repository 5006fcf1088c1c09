"""The SQL of catch-up subscriptions: what is new in a context's stream, and the next page of it.

A reader must lose no event that commits late, and must not wait for somebody else's transaction.

PostgreSQL: the difference of two snapshots. ``done`` is a snapshot whose events have all been
handled, ``target`` a later one that is being worked off, in order of position. The set between the
two is fixed, so nothing can slip in behind the position; what commits late belongs to the next
target. A snapshot never holds a later commit without an earlier one that it waited for, so the
events of a stream come in the order of their versions, whatever the order of transaction ids.
Rows carry the id of their transaction (``xid``), with an index on (context, xid, position).

SQLite: positions are given out under the only write lock, so "after this position" is enough.

MySQL and MariaDB tell nobody which transactions a snapshot has seen; subscriptions are not offered.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.exceptions import SettingsError

from .common import CHECKPOINT, STREAM, change, fetch
from .dialects import dialect

FROM_THE_BEGINNING = "1:1:"
"""A snapshot that has seen nothing: no transaction has an id below 3."""

BEYOND = "s.xid >= pg_snapshot_xmax({0}::pg_snapshot)"
AMONG = "s.xid = ANY(ARRAY(SELECT pg_snapshot_xip({0}::pg_snapshot)))"


class CheckpointProgress(NamedTuple):
    """How far a subscription is: the columns of `Checkpoint` that move."""

    done: str
    target: str | None
    position: int
    last: int
    size: int


class LockedCheckpoint(NamedTuple):
    """A checkpoint of which this transaction has the lock."""

    id: int
    progress: CheckpointProgress
    cluster: str
    paused: bool
    resting: bool
    failures: int


class SubscriptionStatus(NamedTuple):
    """A subscription, and whether there is something for it now."""

    context: str
    subscription: str
    ready: bool
    paused: bool
    resting: bool


def supports_subscriptions(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a database can serve catch-up subscriptions."""
    return connection.vendor in ("postgresql", "sqlite")


def uses_snapshots(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether snapshots say what is new on a database; otherwise positions do.

    Within a ``TestCase`` everything is one transaction, of which no snapshot has ever seen anything;
    and nobody else writes, so positions are enough there on PostgreSQL, too.
    """
    if connection.vendor != "postgresql":
        return False
    blocks: list[Any] = connection.atomic_blocks
    return not (blocks and getattr(blocks[0], "_from_testcase", False))


def require_subscriptions(connection: BaseDatabaseWrapper) -> None:
    """Refuse a database that cannot serve them.

    Raises:
        SettingsError: it says which, and why.
    """
    if not supports_subscriptions(connection):
        raise SettingsError(
            f"the database {connection.alias!r} is {connection.vendor}, which cannot say what a "
            "transaction has seen of others: catch-up subscriptions need postgresql or sqlite"
        )


def lock_checkpoint(
    connection: BaseDatabaseWrapper, context: str, subscription: str, freeze_ms: int
) -> LockedCheckpoint | None:
    """Take the lock of a checkpoint in the open transaction; None: another has it, or there is none.

    On SQLite this is a write, which takes the database's only write lock.
    """
    say = dialect(connection)
    columns = (
        "id, done, target, position, last, size, cluster, paused,"
        f" retry_at IS NOT NULL AND retry_at > {say.now}, failures"
    )
    where = "WHERE context = %s AND subscription = %s"
    if say.skip_locked:
        sql = f"SELECT {columns}, {say.freeze_guard} FROM {CHECKPOINT} {where} {say.skip_locked}"
        rows = fetch(connection, sql, [str(freeze_ms), context, subscription])
    else:
        sql = f"UPDATE {CHECKPOINT} SET position = position {where} RETURNING {columns}"
        rows = fetch(connection, sql, [context, subscription])
    if not rows:
        return None
    id_, done, target, position, last, size, cluster, paused, resting, failures = rows[0][:10]
    mark = CheckpointProgress(done, target, position, last, size)
    return LockedCheckpoint(id_, mark, cluster, bool(paused), bool(resting), failures)


def create_checkpoint(
    connection: BaseDatabaseWrapper, context: str, subscription: str, *, from_now: bool
) -> None:
    """Make a checkpoint, in the open transaction, unless there is one."""
    postgresql = uses_snapshots(connection)
    done, position, cluster, parameters = "''", "0", "''", [context, subscription]
    if postgresql:
        done = "pg_current_snapshot()::text" if from_now else f"'{FROM_THE_BEGINNING}'"
        cluster = CLUSTER
    elif from_now:
        position = f"(SELECT COALESCE(MAX(position), 0) FROM {STREAM} WHERE context = %s)"
        parameters = [*parameters, context]
    change(
        connection,
        f"INSERT INTO {CHECKPOINT} (context, subscription, done, position, cluster, last, size,"
        f" paused, failures, error) VALUES (%s, %s, {done}, {position}, {cluster}, 0, 0, FALSE,"
        " 0, '') ON CONFLICT DO NOTHING",
        parameters,
    )


def checkpoint_exists(connection: BaseDatabaseWrapper, context: str, subscription: str) -> bool:
    """Tell whether there is such a checkpoint."""
    sql = f"SELECT 1 FROM {CHECKPOINT} WHERE context = %s AND subscription = %s"
    return bool(fetch(connection, sql, [context, subscription]))


def save_progress(
    connection: BaseDatabaseWrapper, checkpoint: int, mark: CheckpointProgress
) -> None:
    """Write how far a subscription is, and that it works again."""
    change(
        connection,
        f"UPDATE {CHECKPOINT} SET done = %s, target = %s, position = %s, last = %s, size = %s,"
        f" changed_at = {dialect(connection).now}, failures = 0, error = '', retry_at = NULL"
        " WHERE id = %s",
        [*mark, checkpoint],
    )


def back_off_checkpoint(
    connection: BaseDatabaseWrapper, checkpoint: int, error: str, seconds: float
) -> None:
    """Let a subscription that failed rest for so many seconds."""
    change(
        connection,
        f"UPDATE {CHECKPOINT} SET failures = failures + 1, error = %s,"
        f" retry_at = {dialect(connection).later} WHERE id = %s",
        [error, seconds, checkpoint],
    )


def subscription_statuses(
    connection: BaseDatabaseWrapper, contexts: Sequence[str]
) -> list[SubscriptionStatus]:
    """Say for each subscription of some contexts whether there is something new; one statement."""
    say = dialect(connection)
    if uses_snapshots(connection):
        some = f"EXISTS (SELECT 1 FROM {STREAM} s WHERE s.context = c.context AND {{}})"
        beyond, among = BEYOND.format("c.done"), AMONG.format("c.done")
        ready = f"c.target IS NOT NULL OR {some.format(beyond)} OR {some.format(among)}"
    else:
        ready = (
            f"EXISTS (SELECT 1 FROM {STREAM} s WHERE s.context = c.context"
            " AND s.position > c.position)"
        )
    rows = fetch(
        connection,
        f"SELECT c.context, c.subscription, {ready}, c.paused,"
        f" c.retry_at IS NOT NULL AND c.retry_at > {say.now}"
        f" FROM {CHECKPOINT} c WHERE c.context {say.among}",
        [say.members(contexts)],
    )
    return [SubscriptionStatus(row[0], row[1], *map(bool, row[2:])) for row in rows]


CLUSTER = "(SELECT system_identifier::text FROM pg_control_system())"


def has_foreign_ids(connection: BaseDatabaseWrapper, context: str, cluster: str) -> bool:
    """Tell whether transaction ids in stream or checkpoint are those of another server.

    That is so after a dump was restored, and nothing that is based on them can be trusted.
    """
    if not uses_snapshots(connection):
        return False
    ((same, known),) = fetch(
        connection,
        f"SELECT {CLUSTER} = %s, COALESCE((SELECT s.xid < pg_snapshot_xmax(pg_current_snapshot())"
        " OR s.xid = pg_current_xact_id_if_assigned()"
        f" FROM {STREAM} s WHERE s.context = %s ORDER BY s.xid DESC LIMIT 1), TRUE)",
        [cluster, context],
    )
    return not (same and known)
