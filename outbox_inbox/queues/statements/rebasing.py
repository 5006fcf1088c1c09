"""The SQL that re-bases a checkpoint."""

from collections.abc import Sequence

from django.db.backends.base.base import BaseDatabaseWrapper

from .checkpoints import CLUSTER, uses_snapshots
from .common import CHECKPOINT, STREAM, change, fetch


def unhandled_positions(
    connection: BaseDatabaseWrapper, context: str, subscription: str
) -> list[int]:
    """Return the positions of all events that a subscription has still to handle.

    It compares transaction ids by their numbers, so it is right on any server.
    """
    if uses_snapshots(connection):
        new = (
            "NOT pg_visible_in_snapshot(s.xid, c.done::pg_snapshot) AND NOT (c.target IS NOT NULL"
            " AND s.position <= c.position"
            " AND pg_visible_in_snapshot(s.xid, c.target::pg_snapshot))"
        )
    else:
        new = "s.position > c.position"
    rows = fetch(
        connection,
        f"SELECT s.position FROM {CHECKPOINT} c JOIN {STREAM} s ON s.context = c.context AND {new}"
        " WHERE c.context = %s AND c.subscription = %s ORDER BY s.position",
        [context, subscription],
    )
    return [position for (position,) in rows]


def mark_events_handled(connection: BaseDatabaseWrapper, context: str, xid: int) -> None:
    """Give all events of a context that have ids of no transaction of this server this id.

    PostgreSQL only: the ids of another server, and those that `mark_events_unhandled` gave.
    """
    change(
        connection,
        f"UPDATE {STREAM} SET xid = %s::text::xid8 WHERE context = %s AND xid <> %s::text::xid8"
        " AND (xid > pg_current_xact_id() OR xid < '500')",
        [xid, context, xid],
    )


def mark_events_unhandled(
    connection: BaseDatabaseWrapper, positions: Sequence[int], xid: int
) -> None:
    """Give events an id that snapshots can leave out; PostgreSQL only."""
    change(
        connection,
        f"UPDATE {STREAM} SET xid = %s::text::xid8 WHERE position = ANY(%s)",
        [xid, list(positions)],
    )


def rebase_checkpoint(
    connection: BaseDatabaseWrapper, context: str, subscription: str, new: Sequence[int]
) -> None:
    """Let a subscription have handled what is committed, and what this transaction has written.

    PostgreSQL only. ``new``: ids, below those of all transactions, of what it has not handled.
    """
    ((own, until, running),) = fetch(
        connection,
        "SELECT pg_current_xact_id()::text::bigint,"
        " pg_snapshot_xmax(pg_current_snapshot())::text::bigint,"
        " ARRAY(SELECT pg_snapshot_xip(pg_current_snapshot())::text::bigint)",
        [],
    )
    # Whoever is under way, or has begun since the last one ended, may write when we are gone.
    others = {*running, *range(until, own)} - {own}
    unseen = sorted({*new, *others})
    end = max(until, own + 1)
    done = f"{unseen[0] if unseen else end}:{end}:{','.join(map(str, unseen))}"
    change(
        connection,
        f"UPDATE {CHECKPOINT} SET done = %s, target = NULL, position = 0, last = 0, size = 0,"
        f" cluster = {CLUSTER} WHERE context = %s AND subscription = %s",
        [done, context, subscription],
    )
