"""The pages of a context's stream that a subscription reads."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from .checkpoints import (
    AMONG,
    BEYOND,
    FROM_THE_BEGINNING,
    CheckpointProgress,
    checkpoint_exists,
    uses_snapshots,
)
from .common import CHECKPOINT, STREAM, fetch
from .dialects import dialect

_FEW = 10_000  # new events that are looked up one by one rather than met on a walk
_COLUMNS = (
    "s.position, s.stream, s.version, s.message_id, s.type, s.schema_version, s.key, {payload},"
    " {headers}, s.correlation_id, s.causation_id, s.hops, s.key_hash, s.kind, {recorded_at}"
)
_BARE = (
    "s.position, s.stream, s.version, NULL, s.type, s.schema_version, NULL, {payload}, NULL, NULL,"
    " NULL, NULL, NULL, NULL, NULL"
)


class StreamRow(NamedTuple):
    """One event of a page; the text is only there when it was asked for, and nobody has read it."""

    position: int
    stream: str
    version: int
    message_id: Any
    type: str
    schema_version: int
    key: str | None
    payload: str | None
    headers: str | None
    correlation_id: Any
    causation_id: Any
    hops: int
    key_hash: int
    kind: str
    recorded_at: Any


def take_target(
    connection: BaseDatabaseWrapper, context: str, mark: CheckpointProgress
) -> CheckpointProgress | None:
    """Return the mark with the next set to be worked off; None: nothing is new.

    SQLite has no sets: there every page is the whole of one.
    """
    if not uses_snapshots(connection):
        return mark
    ((target, before, last, size),) = fetch(connection, *_target(context, mark.done))
    if not size:
        return None
    return CheckpointProgress(mark.done, target, before, last, size)


def _target(context: str, done: str) -> tuple[str, list[Any]]:
    if done == FROM_THE_BEGINNING:
        # All of them are new: to count them would take long, and tell nothing.
        sql = (
            f"SELECT pg_current_snapshot()::text, 0, MAX(position), {_FEW + 1} * (MAX(position)"
            f" IS NOT NULL)::int FROM {STREAM}"
        )
        return sql, []
    # The count keeps PostgreSQL from walking along the primary key to the lowest position.
    sql = (
        "SELECT pg_current_snapshot()::text, MIN(position) - 1, MAX(position), COUNT(*)"
        f" FROM ({_new_positions('%s')}) n"
    )
    return sql, [context, done, context, done]


def _new_positions(done: str) -> str:
    """Return the SELECT of the positions of a context's events that ``done`` has not seen."""
    one = f"SELECT position FROM {STREAM} s WHERE s.context = %s AND "
    return f"{one}{BEYOND.format(done)} UNION ALL {one}{AMONG.format(done)}"


def select_page(
    connection: BaseDatabaseWrapper,
    context: str,
    mark: CheckpointProgress,
    size: int,
    more: Sequence[str] = (),
    text: str = "{}",
    *,
    bare: bool = False,
) -> list[StreamRow]:
    """Return the next events of the target after the mark's position, in order.

    Arguments:
        more: further conditions on columns of ``s``, without parameters.
        text: what payload and headers are read by, in place of ``{}``.
        bare: without what only an envelope or the relay needs, which takes most of the time.
    """
    say = dialect(connection)
    columns = (_BARE if bare else _COLUMNS).format(
        payload=text.format("s.payload"),
        headers=text.format("s.headers"),
        recorded_at=say.utc.format("s.recorded_at"),
    )
    where = "".join(f" AND {each}" for each in more)
    tail = f"{where} ORDER BY s.position LIMIT %s"
    if not uses_snapshots(connection):
        sql = f"SELECT {columns} FROM {STREAM} s WHERE s.context = %s AND s.position > %s{tail}"
        rows = fetch(connection, sql, [context, mark.position, size])
    elif mark.size > _FEW:
        rows = _walk(connection, columns, tail, context, mark, size)
    else:
        rows = _look_up(connection, columns, tail, context, mark, size)
    return list(map(StreamRow._make, rows))


def _walk(
    connection: BaseDatabaseWrapper,
    columns: str,
    tail: str,
    context: str,
    mark: CheckpointProgress,
    size: int,
) -> list[tuple[Any, ...]]:
    """Walk along the primary key, from the position to the last one of the target."""
    sql = (
        f"SELECT {columns} FROM {STREAM} s WHERE s.context = %s AND s.position > %s"
        " AND s.position <= %s AND pg_visible_in_snapshot(s.xid, %s::pg_snapshot)"
        f" AND NOT pg_visible_in_snapshot(s.xid, %s::pg_snapshot){tail}"
    )
    parameters = [context, mark.position, mark.last, mark.target, mark.done, size]
    return fetch(connection, sql, parameters)


def _look_up(
    connection: BaseDatabaseWrapper,
    columns: str,
    tail: str,
    context: str,
    mark: CheckpointProgress,
    size: int,
) -> list[tuple[Any, ...]]:
    """Look few events up by their transactions: there may be millions of others between them."""
    sql = (
        f"WITH new AS MATERIALIZED ({_new_positions('%s')})"
        f" SELECT {columns} FROM new JOIN {STREAM} s ON s.position = new.position"
        " WHERE s.position > %s AND s.position <= %s"
        f" AND pg_visible_in_snapshot(s.xid, %s::pg_snapshot){tail}"
    )
    done = mark.done
    parameters = [context, done, context, done, mark.position, mark.last, mark.target, size]
    return fetch(connection, sql, parameters)


def count_unhandled(
    connection: BaseDatabaseWrapper, context: str, subscription: str, more: Sequence[str] = ()
) -> tuple[int, Any]:
    """Return how many events a subscription has still to handle, and when the first was recorded.

    Arguments:
        more: further conditions on columns of ``s``, without parameters.
    """
    where = "".join(f" AND {each}" for each in more)
    if uses_snapshots(connection):
        new = (
            f"({BEYOND.format('c.done')} OR {AMONG.format('c.done')}) AND NOT (c.target IS NOT"
            " NULL AND s.position <= c.position"
            " AND pg_visible_in_snapshot(s.xid, c.target::pg_snapshot))"
        )
    else:
        new = "s.position > c.position"
    sql = (
        f"SELECT COUNT(*), MIN(s.recorded_at) FROM {CHECKPOINT} c JOIN {STREAM} s"
        f" ON s.context = c.context AND {new}{where}"
        " WHERE c.context = %s AND c.subscription = %s"
    )
    if not checkpoint_exists(connection, context, subscription):
        sql = f"SELECT COUNT(*), MIN(s.recorded_at) FROM {STREAM} s WHERE s.context = %s{where}"
        ((count, oldest),) = fetch(connection, sql, [context])
        return count, oldest
    ((count, oldest),) = fetch(connection, sql, [context, subscription])
    return count, oldest


def type_condition(types: Sequence[str]) -> str:
    """Return the condition that an event has one of these stored names."""
    names = ", ".join("'" + name.replace("'", "''").replace("%", "%%") + "'" for name in types)
    return f"s.type IN ({names})" if names else "FALSE"
