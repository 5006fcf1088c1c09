"""Intake: from an outbox or from a transport into an inbox, with a delivery for each consumer."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from . import mysql
from .common import (
    DELIVERY,
    INBOX,
    OUTBOX,
    STREAM,
    change,
    event_columns,
    fetch,
    insert_rows,
    unnest,
)
from .dialects import MySQL, as_uuid, dialect, run_apart


class InterestRow(NamedTuple):
    """A consumer, as the statement that makes its deliveries needs it."""

    type: str
    consumer: str
    hash: int


class ReceivedRow(NamedTuple):
    """A message from outside, as the inbox stores it."""

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
    recorded_at: Any


_RECEIVED_TYPES = "uuid text int text text text uuid uuid int bigint timestamptz"  # on PostgreSQL


def move_to_inbox(
    connection: BaseDatabaseWrapper,
    ids: Sequence[int],
    context: str,
    source: str,
    *,
    stored: bool = False,
) -> list[int]:
    """Copy outbox messages into an inbox of the same database; return the ids of the new rows.

    A message that is there already is left out by the unique constraint (rule O7).
    ``stored``: events of the stream by their positions.
    """
    say = dialect(connection)
    event = event_columns(say)
    name, id_ = (STREAM, "position") if stored else (OUTBOX, "id")
    if isinstance(say, MySQL):
        return mysql.move_to_inbox(connection, say, event, ids, context, source)
    rows = fetch(
        connection,
        f"INSERT INTO {INBOX} (context, source, {event}, key_hash, recorded_at, received_at)"
        f" SELECT %s, %s, {event}, key_hash, recorded_at, {say.now} FROM {name}"
        f" WHERE {id_} {say.among} ORDER BY {id_}"
        " ON CONFLICT (context, source, message_id) DO NOTHING RETURNING id",
        [context, source, say.members(ids)],
    )
    return [row[0] for row in rows]


def _insert_inbox_arrays(
    connection: BaseDatabaseWrapper,
    rows: Sequence[ReceivedRow],
    context: str,
    source: str,
    statement: str,
) -> list[int]:
    """Insert with one array a column; ``statement`` has a gap where the rows come from."""
    columns = ", ".join(ReceivedRow._fields)
    selected = (
        f"SELECT %s, %s, {columns}, {dialect(connection).now} {unnest(columns, _RECEIVED_TYPES)}"
    )
    found = run_apart(
        connection,
        f"INSERT INTO {INBOX} {statement.format(selected)}",
        [context, source, *map(list, zip(*rows, strict=True))],
    )
    return [row[0] for row in found]


def insert_inbox(
    connection: BaseDatabaseWrapper, rows: Sequence[ReceivedRow], context: str, source: str
) -> list[int]:
    """Insert messages that came from elsewhere; return the ids of the new rows (rule O7)."""
    say = dialect(connection)
    columns = f"(context, source, {event_columns(say)}, key_hash, recorded_at, received_at)"
    tail = "ON CONFLICT (context, source, message_id) DO NOTHING RETURNING id"
    if say.arrays:
        return _insert_inbox_arrays(connection, rows, context, source, f"{columns} {{}} {tail}")
    marks = f"({', '.join(['%s'] * (2 + len(ReceivedRow._fields)))}, {say.now})"
    values = [(context, source, *map(say.uuid, row)) for row in rows]
    if isinstance(say, MySQL):
        scope = {"context": context, "source": source}
        insert = mysql.Insert(
            table=INBOX, columns=columns, row=marks, returning="id", place=2, scope=scope
        )
        returned = mysql.insert_new(connection, say, insert, values)
    else:
        returned = insert_rows(connection, f"INSERT INTO {INBOX} {columns}", marks, tail, values)
    return [row[0] for row in returned]


def select_payloads(
    connection: BaseDatabaseWrapper, message_ids: Sequence[UUID], context: str, source: str
) -> dict[UUID, str]:
    """Return the payloads of inbox messages by their ids."""
    say = dialect(connection)
    rows = fetch(
        connection,
        f"SELECT message_id, payload FROM {INBOX} WHERE context = %s AND source = %s"
        f" AND message_id {say.among}",
        [context, source, say.members(message_ids)],
    )
    return {as_uuid(row[0]): row[1] for row in rows}


def insert_deliveries(
    connection: BaseDatabaseWrapper,
    message_ids: Sequence[int],
    interests: Sequence[InterestRow],
    partitions: int,
) -> None:
    """Make one delivery for each new inbox message and each consumer of its type.

    The partition is ``(hash of the consumer XOR hash of the key) % partitions``; XOR is written
    as ``(a | b) - (a & b)``, which every database has.
    """
    if not message_ids or not interests:
        return
    say = dialect(connection)
    insert = (
        f" INSERT INTO {DELIVERY} (message_id, context, consumer, {say.partition}, {say.key},"
        " state, attempts, holds, error)"
        " SELECT m.id, m.context, c.consumer,"
        " ((m.key_hash | c.hash) - (m.key_hash & c.hash)) %% %s, m.key, 'ready', 0, FALSE, ''"
        f" FROM {INBOX} m JOIN {{}} ON c.type = m.type WHERE m.id {say.among} ORDER BY m.id"
    )
    if isinstance(say, MySQL):
        mysql.insert_deliveries(connection, say, insert, message_ids, interests, partitions)
        return
    consumers = ", ".join(["(%s, %s, %s)"] * len(interests))
    change(
        connection,
        f"WITH c (type, consumer, hash) AS (VALUES {consumers}){insert.format('c')}",
        [
            *(value for interest in interests for value in interest),
            partitions,
            say.members(message_ids),
        ],
    )
