"""The statements of ``record()``: into the outbox, and into a stream."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from .common import OUTBOX, STREAM, change_rows, fetch_rows
from .dialects import Insert, Rows, dialect


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
    partition: int
    due_at: Any


_TYPES = "text uuid text int text text text uuid uuid int bigint text"  # up to `kind`
_PENDING = {"state": "'pending'", "attempts": "0", "holds": "FALSE", "error": "''"}


_INTO_OUTBOX = {
    (timed, fresh): Insert(
        table=OUTBOX,
        columns=(*EventRow._fields, *["recorded_at"] * timed),
        types=f"{_TYPES} int timestamptz" + " timestamptz" * timed,
        constants=_PENDING if timed else {"recorded_at": "{now}", **_PENDING},
        unique=None if fresh else "",  # an id is one message of a context
        returning="recorded_at",
    )
    for timed in (False, True)
    for fresh in (False, True)
}
_INTO_STREAM = {
    in_outbox: Insert(
        table=STREAM,
        columns=(*EventRow._fields[:12], "stream", "version"),
        types=f"{_TYPES} text int",
        constants={"in_outbox": "TRUE" if in_outbox else "FALSE", "recorded_at": "{now}"},
        unique="",
        returning="recorded_at",
        order="position",
    )
    for in_outbox in (False, True)
}


def insert_outbox(
    connection: BaseDatabaseWrapper,
    rows: Sequence[EventRow],
    times: Sequence[Any] = (),
    *,
    fresh: bool = False,
) -> list[tuple[Any, ...]]:
    """Insert pending messages; return ``(recorded_at,)`` of those whose id was new.

    Arguments:
        times: the time stamp of each row; default: the database's clock.
        fresh: the ids were made just now, so the database need not look for them.
    """
    values: Rows = [(*row, at) for row, at in zip(rows, times, strict=True)] if times else rows
    return dialect(connection).insert_new(connection, _INTO_OUTBOX[bool(times), fresh], values)


def insert_stream(
    connection: BaseDatabaseWrapper,
    rows: Sequence[EventRow],
    places: Sequence[tuple[str, int]],
    *,
    in_outbox: bool = True,
) -> list[tuple[Any, ...]]:
    """Append events to streams; return ``(recorded_at,)`` of those stored.

    Two transactions may append the same version at once. The unique constraint lets the second
    wait for the commit of the first and refuses it then: fewer rows come back than were given. The
    same happens when a message id was used before.

    Arguments:
        places: stream and version of each row.
        in_outbox: the events go to the outbox as well.
    """
    placed = [(*row[:12], *place) for row, place in zip(rows, places, strict=True)]
    return dialect(connection).insert_in_order(connection, _INTO_STREAM[in_outbox], placed)


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


def delete_events(connection: BaseDatabaseWrapper, rows: Sequence[EventRow]) -> int:
    """Take back what this transaction has just appended, to store all of it or nothing."""
    sql = dialect(connection)
    return change_rows(
        connection,
        f"DELETE FROM {STREAM} WHERE message_id {sql.among} AND context = %s",
        [sql.members([row.message_id for row in rows]), rows[0].context],
    )
