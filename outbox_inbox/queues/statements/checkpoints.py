"""The rows of the table of checkpoints: how far each subscription has read, and its lock.

The lock makes one worker at a time read on. The progress is saved in the transaction of the
effects: saved before, a crash would lose events; saved after, it would apply them twice.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.exceptions import SettingsError

from .catch_up import CLUSTER, CheckpointProgress, catch_up, uses_snapshots
from .common import CHECKPOINT, STREAM, change_rows, fetch_rows
from .dialects import CLASSES, dialect
from .times import is_resting


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
        f" {sql.seconds_until('retry_at')}, failures",
        CHECKPOINT,
        "WHERE context = %s AND subscription = %s",
        [context, subscription],
        freeze_ms,
    )
    if not rows:
        return None
    id_, *progress, cluster, paused, left, failures = rows[0][:10]
    start, resting = CheckpointProgress(*progress), is_resting(left, failures)
    return LockedCheckpoint(id_, start, cluster, bool(paused), resting, failures)


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
    size, more = "%s", list[int]()
    if progress.target is None and uses_snapshots(connection):
        # With the set worked off, ``last`` is its last event, and ``size`` the transaction of that.
        size = f"%s + COALESCE((SELECT xid::text::bigint FROM {STREAM} WHERE position = %s), 0)"
        more = [progress.last]
    change_rows(
        connection,
        f"UPDATE {CHECKPOINT} SET done = %s, target = %s, position = %s, last = %s, size = {size},"
        f" changed_at = {dialect(connection).now}, failures = 0, error = '', retry_at = NULL"
        " WHERE id = %s",
        [*progress, *more, checkpoint],
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
        f" {sql.seconds_until('c.retry_at')}, c.failures"
        f" FROM {CHECKPOINT} c WHERE c.context {sql.among}",
        [sql.members(contexts)],
    )
    return [
        SubscriptionStatus(context, name, bool(ready), bool(paused), is_resting(left, failures))
        for context, name, ready, paused, left, failures in rows
    ]


def own_cluster(connection: BaseDatabaseWrapper) -> str:
    """Return the server of a database as its checkpoints name it; empty where positions count."""
    if not uses_snapshots(connection):
        return ""
    ((found,),) = fetch_rows(connection, f"SELECT {CLUSTER}", [])
    return str(found)


def foreign_origin(
    connection: BaseDatabaseWrapper, context: str, lock: LockedCheckpoint
) -> Literal["server", "rows"] | None:
    """Return how the checkpoint, or the stream, came from elsewhere; None: it is at home.

    "server": with a dump of another server, so all transaction ids are those of that one. "rows":
    row by row, which gives the events the ids of the transactions that copied them.
    """
    if not uses_snapshots(connection):
        # A snapshot where positions count: its position says nothing.
        return "rows" if lock.progress.done and not dialect(connection).has_snapshots else None
    if not lock.progress.done:
        return "server"  # of SQLite, whose positions can be rebased
    if was_copied(connection, lock.progress):
        return "rows"
    # After a dump was restored: compared with the ids of this server they would hide events, or show
    # them twice.
    ((same, known),) = fetch_rows(
        connection,
        f"SELECT {CLUSTER} = %s, COALESCE((SELECT s.xid < pg_snapshot_xmax(pg_current_snapshot())"
        " OR s.xid = pg_current_xact_id_if_assigned()"
        f" FROM {STREAM} s WHERE s.context = %s ORDER BY s.xid DESC LIMIT 1), TRUE)",
        [lock.cluster, context],
    )
    return None if same and known else "server"


def was_copied(connection: BaseDatabaseWrapper, progress: CheckpointProgress) -> bool:
    """Return whether the events have other transaction ids than when they were handled."""
    done, target, position, last, size = progress
    parameters: list[Any]
    if target is None:
        test, parameters = "s.xid <> %s::text::xid8", [size, last]
        if not size:
            return False  # nothing was handled, or by an older version of the app
    else:
        test = (
            "NOT pg_visible_in_snapshot(s.xid, %s::pg_snapshot)"
            " OR pg_visible_in_snapshot(s.xid, %s::pg_snapshot)"
        )
        parameters = [target, done, position]
    statement = f"SELECT {test} FROM {STREAM} s WHERE s.position = %s"
    return any(copied for (copied,) in fetch_rows(connection, statement, parameters))
