"""Recording: into the outbox, and into a stream."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from . import mysql
from .common import (
    FEW,
    OUTBOX,
    STREAM,
    change,
    event_columns,
    fetch,
    insert_arrays,
    insert_rows,
    unnest,
)
from .dialects import Dialect, MySQL, dialect


class EventRow(NamedTuple):
    """What ``record()`` has worked out of one event; ``id``s not yet in the form of a vendor."""

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
    partition: int
    due_at: Any


_ROW_TYPES = (
    "text uuid text int text text text uuid uuid int bigint text int timestamptz"  # on PostgreSQL
)


def insert_outbox(
    connection: BaseDatabaseWrapper,
    rows: Sequence[EventRow],
    times: Sequence[Any] = (),
    *,
    fresh: bool = False,
) -> list[tuple[Any, ...]]:
    """Insert messages that are pending; return ``(recorded_at,)`` of those whose id was new.

    ``times``: the time stamp of each row; default: the database's clock. ``fresh``: the ids were
    made just now, so none can have been recorded before, and nobody has to look.
    """
    say = dialect(connection)
    values = rows if say.native else [tuple(map(say.uuid, row)) for row in rows]
    if times:
        values = [(*row, time) for row, time in zip(values, times, strict=True)]
    insert = _outbox_insert(say, timed=bool(times), fresh=fresh)
    if isinstance(say, MySQL):
        plain = mysql.Insert(
            table=OUTBOX, columns=insert.columns, row=insert.row, returning="recorded_at"
        )
        return mysql.insert_new(connection, say, plain, values)
    if say.arrays and len(rows) > FEW:
        return insert_arrays(connection, insert.arrays, values)
    head = f"INSERT INTO {OUTBOX} {insert.columns}"
    return insert_rows(connection, head, insert.row, insert.tail, values)


class _OutboxInsert(NamedTuple):
    """The parts of an INSERT into the outbox, and the whole of one that takes arrays."""

    columns: str
    row: str
    tail: str
    arrays: str


@cache
def _outbox_insert(say: Dialect, *, timed: bool, fresh: bool) -> _OutboxInsert:
    names = ", ".join(EventRow._fields)
    columns = (
        f"(context, {event_columns(say)}, key_hash, kind, {say.partition}, due_at,"
        " recorded_at, state, attempts, holds, error)"
    )
    constants = "'pending', 0, FALSE, ''"
    row = (
        f"({', '.join(['%s'] * len(EventRow._fields))}, {'%s' if timed else say.now}, {constants})"
    )
    conflict = "" if fresh else "ON CONFLICT (message_id) DO NOTHING "
    tail = f"{conflict}RETURNING recorded_at"
    unnested = (
        unnest(f"{names}, recorded_at", f"{_ROW_TYPES} timestamptz")
        if timed
        else unnest(names, _ROW_TYPES)
    )
    arrays = (
        f"INSERT INTO {OUTBOX} {columns} SELECT {names}, {'recorded_at' if timed else say.now},"
        f" {constants} {unnested} {tail}"
    )
    return _OutboxInsert(columns, row, tail, arrays)


def insert_stream(
    connection: BaseDatabaseWrapper,
    rows: Sequence[EventRow],
    places: Sequence[tuple[str, int]],
    *,
    in_outbox: bool = True,
) -> list[tuple[Any, ...]]:
    """Append events to streams; return ``(recorded_at,)`` of those stored.

    Fewer rows than given: another transaction has taken a version (this one waited for its
    commit), or a message id was used before. ``places``: stream and version of each row;
    ``in_outbox``: they go to the outbox as well.
    """
    say = dialect(connection)
    columns = (
        f"(context, {event_columns(say)}, key_hash, kind, stream, version, in_outbox, recorded_at)"
    )
    sent = "TRUE" if in_outbox else "FALSE"
    marks = f"({', '.join(['%s'] * 14)}, {sent}, {say.now})"
    values = [
        (*map(say.uuid, row[:12]), stream, version)
        for row, (stream, version) in zip(rows, places, strict=True)
    ]
    if isinstance(say, MySQL):
        insert = mysql.Insert(
            table=STREAM, columns=columns, row=marks, returning="recorded_at", order="position"
        )
        return mysql.insert_all(connection, say, insert, values)
    return insert_rows(
        connection,
        f"INSERT INTO {STREAM} {columns}",
        marks,
        "ON CONFLICT DO NOTHING RETURNING recorded_at",
        values,
    )


def stream_version(connection: BaseDatabaseWrapper, context: str, stream: str) -> int:
    """Return the number of events in a stream."""
    rows = fetch(
        connection,
        f"SELECT COALESCE(MAX(version), 0) FROM {STREAM} WHERE context = %s AND stream = %s",
        [context, stream],
    )
    return int(rows[0][0])


def lock_stream(connection: BaseDatabaseWrapper, context: str, stream: str, last: int) -> bool:
    """Wait for others who append to a stream that is at version ``last``; false: it has grown.

    Only MySQL needs it; elsewhere the insertion of the next version waits.
    """
    if not isinstance(dialect(connection), MySQL) or not last:
        return True
    mysql.lock_version(connection, STREAM, context, stream, last)
    return stream_version(connection, context, stream) == last


def delete_events(connection: BaseDatabaseWrapper, message_ids: Sequence[Any]) -> int:
    """Take back what this transaction has just appended, to store all of it or nothing."""
    say = dialect(connection)
    return change(
        connection,
        f"DELETE FROM {STREAM} WHERE message_id {say.among}",
        [say.members(message_ids)],
    )
