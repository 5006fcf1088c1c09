"""The rows of the table of checkpoints: how far each subscription has read, and its lock.

The lock makes one worker at a time read on. The progress is saved in the transaction of the
effects: saved before, a crash would lose events; saved after, it would apply them twice.
"""

from collections.abc import Sequence
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.exceptions import SettingsError

from .catch_up import CLUSTER, CheckpointProgress, catch_up, uses_snapshots
from .common import CHECKPOINT, STREAM, change_rows, fetch_rows
from .dialects import CLASSES, dialect


class LockedCheckpoint(NamedTuple):
    """A row of the table of checkpoints that is locked by this transaction."""

    id: int
    progress: CheckpointProgress
    cluster: str
    paused: bool
    resting: bool
    failures: int


class SubscriptionStatus(NamedTuple):
    """A row of the table of checkpoints, and whether there is something new for it."""

    context: str
    subscription: str
    ready: bool
    paused: bool
    resting: bool


def supports_subscriptions(connection: BaseDatabaseWrapper) -> bool:
    """Return whether catch-up subscriptions work on a database, without connecting to it."""
    vendor = CLASSES.get(connection.vendor)
    return vendor is not None and vendor.follows_streams


def require_subscriptions(connection: BaseDatabaseWrapper) -> None:
    """Raise `SettingsError` for a database on which subscriptions do not work."""
    if not supports_subscriptions(connection):
        raise SettingsError(
            f"the database {connection.alias!r} is {connection.vendor}, which cannot say what a "
            "transaction has seen of others: catch-up subscriptions need postgresql or sqlite"
        )


def lock_checkpoint(
    connection: BaseDatabaseWrapper, context: str, subscription: str, freeze_ms: int
) -> LockedCheckpoint | None:
    """Lock a checkpoint in the open transaction; None: another has the lock, or there is no row."""
    sql = dialect(connection)
    rows = sql.lock_row(
        connection,
        "id, done, target, position, last, size, cluster, paused,"
        f" retry_at IS NOT NULL AND retry_at > {sql.now}, failures",
        CHECKPOINT,
        "WHERE context = %s AND subscription = %s",
        [context, subscription],
        freeze_ms,
    )
    if not rows:
        return None
    id_, *progress, cluster, paused, resting, failures = rows[0][:10]
    start = CheckpointProgress(*progress)
    return LockedCheckpoint(id_, start, cluster, bool(paused), bool(resting), failures)


def create_checkpoint(
    connection: BaseDatabaseWrapper, context: str, subscription: str, *, from_now: bool
) -> None:
    """Insert a checkpoint in the open transaction, unless another one has done so first."""
    start = catch_up(connection).new_checkpoint(from_now=from_now)
    change_rows(
        connection,
        f"INSERT INTO {CHECKPOINT} (context, subscription, done, position, cluster, last, size,"
        f" paused, failures, error) SELECT c.context, c.subscription, {start}, 0, 0, FALSE, 0, ''"
        " FROM (SELECT %s AS context, %s AS subscription) c WHERE TRUE ON CONFLICT DO NOTHING",
        [context, subscription],
    )


def checkpoint_exists(connection: BaseDatabaseWrapper, context: str, subscription: str) -> bool:
    """Return whether a subscription has a checkpoint."""
    return checkpoint_progress(connection, context, subscription) is not None


def checkpoint_progress(
    connection: BaseDatabaseWrapper, context: str, subscription: str
) -> CheckpointProgress | None:
    """Return how far a subscription has read, without its lock; None: it has no checkpoint."""
    rows = fetch_rows(
        connection,
        f"SELECT done, target, position, last, size FROM {CHECKPOINT}"
        " WHERE context = %s AND subscription = %s",
        [context, subscription],
    )
    return CheckpointProgress(*rows[0]) if rows else None


def save_progress(
    connection: BaseDatabaseWrapper, checkpoint: int, progress: CheckpointProgress
) -> None:
    """Write how far a subscription has read, and that it works again."""
    change_rows(
        connection,
        f"UPDATE {CHECKPOINT} SET done = %s, target = %s, position = %s, last = %s, size = %s,"
        f" changed_at = {dialect(connection).now}, failures = 0, error = '', retry_at = NULL"
        " WHERE id = %s",
        [*progress, checkpoint],
    )


def back_off_checkpoint(
    connection: BaseDatabaseWrapper, checkpoint: int, error: str, seconds: float
) -> None:
    """Store the failure of a subscription; its next try is due after so many seconds."""
    change_rows(
        connection,
        f"UPDATE {CHECKPOINT} SET failures = failures + 1, error = %s,"
        f" retry_at = {dialect(connection).later} WHERE id = %s",
        [error, seconds, checkpoint],
    )


def subscription_statuses(
    connection: BaseDatabaseWrapper, contexts: Sequence[str]
) -> list[SubscriptionStatus]:
    """Return whether there is something new for each subscription of some contexts."""
    sql = dialect(connection)
    rows = fetch_rows(
        connection,
        f"SELECT c.context, c.subscription, {catch_up(connection).waiting}, c.paused,"
        f" c.retry_at IS NOT NULL AND c.retry_at > {sql.now}"
        f" FROM {CHECKPOINT} c WHERE c.context {sql.among}",
        [sql.members(contexts)],
    )
    return [SubscriptionStatus(row[0], row[1], *map(bool, row[2:])) for row in rows]


def has_foreign_ids(connection: BaseDatabaseWrapper, context: str, cluster: str) -> bool:
    """Return whether transaction ids in stream or checkpoint are those of another server."""
    # After a dump was restored: compared with the ids of this server they would hide events, or show
    # them twice.
    if not uses_snapshots(connection):
        return False
    ((same, known),) = fetch_rows(
        connection,
        f"SELECT {CLUSTER} = %s, COALESCE((SELECT s.xid < pg_snapshot_xmax(pg_current_snapshot())"
        " OR s.xid = pg_current_xact_id_if_assigned()"
        f" FROM {STREAM} s WHERE s.context = %s ORDER BY s.xid DESC LIMIT 1), TRUE)",
        [cluster, context],
    )
    return not (same and known)
