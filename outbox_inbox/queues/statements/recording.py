"""The statements of ``record()``: into the outbox, and into a stream."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf import Source

from .common import OUTBOX, STREAM, change_rows, fetch_rows
from .dialects import Dialect, Insert, Rows, dialect
from .layouts import Layout, in_force, partition_of


class EventRow(NamedTuple):
    """One event as ``record()`` has prepared it; UUIDs are not yet in the form of a vendor."""

    context: str
    message_id: Any
    type: str
    schema_version: int
    key: str | None
    payload: str
    headers: str
    correlation_id: Any
    causation_id: Any
    hops: int
    key_hash: int
    kind: str
    due_at: Any


class Stored(NamedTuple):
    """What the database says of an event that was inserted."""

    recorded_at: Any
    source: Source
    """The source that was in force in the statement."""


_EVENT = EventRow._fields[:12]
_TYPES = "text uuid text int text text text uuid uuid int bigint text"  # of these
_PENDING = {"state": "'pending'", "attempts": "0", "holds": "FALSE", "error": "''"}


@cache
def _into_outbox(sql: Dialect, layout: Layout, *, timed: bool, fresh: bool) -> Insert:
    source = in_force("source", layout) if sql.follows_streams else ""
    return Insert(
        table=OUTBOX,
        columns=(*_EVENT, "partition", "due_at", *["recorded_at"] * timed),
        types=f"{_TYPES} bigint timestamptz" + " timestamptz" * timed,
        constants=_PENDING if timed else {"recorded_at": "{now}", **_PENDING},
        computed={"partition": partition_of(sql, "{}", "outbox", layout)},
        unique=None if fresh else "",  # an id is one message of a context
        returning=f"recorded_at, {source}" if source else "recorded_at",
    )


@cache
def _into_stream(sql: Dialect, layout: Layout, *, in_outbox: bool) -> Insert:
    source = in_force("source", layout) if sql.follows_streams else "'outbox'"
    return Insert(
        table=STREAM,
        columns=(*_EVENT, "stream", "version"),
        types=f"{_TYPES} text int",
        constants={
            "in_outbox": "TRUE" if in_outbox else f"{source} = 'outbox'",
            "recorded_at": "{now}",
        },
        unique="",
        returning="recorded_at, in_outbox" if sql.follows_streams else "recorded_at",
        order="position",
    )


def insert_outbox(
    connection: BaseDatabaseWrapper,
    rows: Sequence[EventRow],
    layout: Layout,
    times: Sequence[Any] = (),
    *,
    fresh: bool = False,
) -> list[Stored]:
    """Insert pending messages, each into its partition; return those whose id was new.

    Arguments:
        layout: what the settings say of their context, where none is stored.
        times: the time stamp of each row; default: the database's clock.
        fresh: the ids were made just now, so the database need not look for them.
    """
    sql = dialect(connection)
    insert = _into_outbox(sql, layout, timed=bool(times), fresh=fresh)
    values: Rows = [(*row[:12], row.key_hash, row.due_at) for row in rows]
    if times:
        values = [(*row, at) for row, at in zip(values, times, strict=True)]
    found = sql.insert_new(connection, insert, values)
    return [Stored(*row) if sql.follows_streams else Stored(row[0], "outbox") for row in found]


def insert_stream(
    connection: BaseDatabaseWrapper,
    rows: Sequence[EventRow],
    places: Sequence[tuple[str, int]],
    layout: Layout,
    *,
    in_outbox: bool = False,
) -> list[Stored]:
    """Append events to streams; return those stored.

    Two transactions may append the same version at once. The unique constraint lets the second
    wait for the commit of the first and refuses it then: fewer rows come back than were given. The
    same happens when a message id was used before.

    Arguments:
        places: stream and version of each row.
        layout: as for `insert_outbox`.
        in_outbox: the events go to the outbox as well; default: if that is the source in force.
    """
    sql = dialect(connection)
    insert = _into_stream(sql, layout, in_outbox=in_outbox)
    placed = [(*row[:12], *place) for row, place in zip(rows, places, strict=True)]
    found = sql.insert_in_order(connection, insert, placed)
    if not sql.follows_streams:
        return [Stored(row[0], "outbox") for row in found]
    return [Stored(at, "outbox" if to_outbox else "stream") for at, to_outbox in found]


def stream_version(connection: BaseDatabaseWrapper, context: str, stream: str) -> int:
    """Return the number of events in a stream."""
    rows = fetch_rows(
        connection,
        f"SELECT COALESCE(MAX(version), 0) FROM {STREAM} WHERE context = %s AND stream = %s",
        [context, stream],
    )
    return int(rows[0][0])


def lock_stream(connection: BaseDatabaseWrapper, context: str, stream: str, last: int) -> bool:
    """Wait for others that append to a stream at version ``last``; false: it has grown since."""
    sql = dialect(connection)
    # Only MySQL needs it; elsewhere the insertion of the next version waits.
    if not last or not sql.lock_version(connection, context, stream, last):
        return True
    return stream_version(connection, context, stream) == last


def delete_rows(connection: BaseDatabaseWrapper, source: Source, rows: Sequence[EventRow]) -> int:
    """Take back what this transaction has just inserted: into the outbox, or into streams."""
    sql, name = dialect(connection), OUTBOX if source == "outbox" else STREAM
    return change_rows(
        connection,
        f"DELETE FROM {name} WHERE message_id {sql.among} AND context = %s",
        [sql.members([row.message_id for row in rows]), rows[0].context],
    )
