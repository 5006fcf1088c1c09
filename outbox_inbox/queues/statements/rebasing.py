"""The statements that rebase a checkpoint: in a restored dump its transaction ids are wrong."""

from collections.abc import Sequence

from django.db.backends.base.base import BaseDatabaseWrapper

from .catch_up import CLUSTER, catch_up
from .common import CHECKPOINT, STREAM, change_rows, fetch_rows


def unhandled_positions(
    connection: BaseDatabaseWrapper, context: str, subscription: str
) -> list[int]:
    """Return the positions of all events that a subscription has still to handle."""
    # It compares transaction ids by their numbers, so it is right on any server.
    rows = fetch_rows(
        connection,
        f"SELECT s.position FROM {CHECKPOINT} c JOIN {STREAM} s ON s.context = c.context"
        f" AND {catch_up(connection).unhandled}"
        " WHERE c.context = %s AND c.subscription = %s ORDER BY s.position",
        [context, subscription],
    )
    return [position for (position,) in rows]


def mark_events_handled(connection: BaseDatabaseWrapper, context: str, xid: int) -> None:
    """Give this id to events with ids of a dump, or of `mark_events_unhandled`; PostgreSQL only."""
    change_rows(
        connection,
        f"UPDATE {STREAM} SET xid = %s::text::xid8 WHERE context = %s AND xid <> %s::text::xid8"
        " AND (xid > pg_current_xact_id() OR xid < '500')",
        [xid, context, xid],
    )


def mark_events_unhandled(
    connection: BaseDatabaseWrapper, positions: Sequence[int], xid: int
) -> None:
    """Give events an id that a snapshot can list as not seen; PostgreSQL only."""
    change_rows(
        connection,
        f"UPDATE {STREAM} SET xid = %s::text::xid8 WHERE position = ANY(%s)",
        [xid, list(positions)],
    )


def rebase_checkpoint(
    connection: BaseDatabaseWrapper, context: str, subscription: str, new: Sequence[int]
) -> None:
    """Make a subscription have handled all that is committed or written here, except ``new``.

    PostgreSQL only. ``new`` are the ids, below those of all transactions, of what is to be handled.
    """
    ((own, until, running),) = fetch_rows(
        connection,
        "SELECT pg_current_xact_id()::text::bigint,"
        " pg_snapshot_xmax(pg_current_snapshot())::text::bigint,"
        " ARRAY(SELECT pg_snapshot_xip(pg_current_snapshot())::text::bigint)",
        [],
    )
    # A transaction that is open, or has got its id since the last one ended, may still write events
    # when this one has committed: were its id not listed, they would count as handled.
    others = {*running, *range(until, own)} - {own}
    unseen = sorted({*new, *others})
    end = max(until, own + 1)
    done = f"{unseen[0] if unseen else end}:{end}:{','.join(map(str, unseen))}"
    change_rows(
        connection,
        f"UPDATE {CHECKPOINT} SET done = %s, target = NULL, position = 0, last = 0, size = 0,"
        f" cluster = {CLUSTER} WHERE context = %s AND subscription = %s",
        [done, context, subscription],
    )
