"""The hot statements: record, relay, intake, claim and mark, in raw SQL.

Each function is one round trip (two where it says so) on the connection of the caller's
transaction, and serves a whole batch. Compiling a query set costs ten times what these cost, and
an ORM object a row halves the relay; everything that is not hot uses the ORM.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple
from uuid import UUID

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from . import mysql
from .dialects import Dialect, MySQL, as_uuid, dialect, run_apart
from .models import (
    Delivery,
    DeliveryAttempt,
    InboxMessage,
    OutboxMessage,
    Partition,
    StoredEvent,
    table,
)

OUTBOX = table(OutboxMessage)
INBOX = table(InboxMessage)
DELIVERY = table(Delivery)
ATTEMPT = table(DeliveryAttempt)
STREAM = table(StoredEvent)
PARTITION = table(Partition)

_CHUNK = 500  # rows in one INSERT: below SQLite's limit of 32,766 parameters
_FEW = 8  # rows that are sent faster one by one than as arrays
_EVENT = (
    "message_id, type, schema_version, {key}, payload, headers, correlation_id, causation_id, hops"
)


class Row(NamedTuple):
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


class Interest(NamedTuple):
    """A consumer, as the statement that makes its deliveries needs it."""

    type: str
    consumer: str
    hash: int


def _event(say: Dialect) -> str:
    return _EVENT.format(key=say.key)


def _insert_rows(
    connection: BaseDatabaseWrapper, head: str, row: str, tail: str, rows: Sequence[Sequence[Any]]
) -> list[tuple[Any, ...]]:
    """Insert rows with as few statements as their number allows; return what came back."""
    returned: list[tuple[Any, ...]] = []
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        returned += _run_hot(
            connection,
            f"{head} VALUES {', '.join([row] * len(chunk))} {tail}",
            [value for each in chunk for value in each],
        )
    return returned


def _insert_arrays(
    connection: BaseDatabaseWrapper, sql: str, rows: Sequence[Sequence[Any]]
) -> list[tuple[Any, ...]]:
    """Do as `_insert_rows`, with one array a column: a third of its work for a hundred rows."""
    returned: list[tuple[Any, ...]] = []
    for start in range(0, len(rows), _CHUNK):
        columns = zip(*rows[start : start + _CHUNK], strict=True)
        returned += run_apart(connection, sql, list(map(list, columns)))
    return returned


def _run_hot(
    connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """Do as `_run`, with less work where that is possible."""
    run = run_apart if dialect(connection).arrays else _run
    return run(connection, sql, parameters)


def _unnested(columns: str, kinds: str) -> str:
    """Return the FROM of rows that come as one array a column, in their order.

    The order of the rows is that of the messages, whatever the planner thinks of next.
    """
    arrays = ", ".join(f"%b::{kind}[]" for kind in kinds.split())
    return f"FROM unnest({arrays}) WITH ORDINALITY AS r ({columns}, n) ORDER BY n"


def _run(
    connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any]
) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def _change(connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return int(cursor.rowcount)


# Recording


def insert_outbox(
    connection: BaseDatabaseWrapper,
    rows: Sequence[Row],
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
    if say.arrays and len(rows) > _FEW:
        return _insert_arrays(connection, insert.arrays, values)
    head = f"INSERT INTO {OUTBOX} {insert.columns}"
    return _insert_rows(connection, head, insert.row, insert.tail, values)


class _OutboxInsert(NamedTuple):
    """The parts of an INSERT into the outbox, and the whole of one that takes arrays."""

    columns: str
    row: str
    tail: str
    arrays: str


@cache
def _outbox_insert(say: Dialect, *, timed: bool, fresh: bool) -> _OutboxInsert:
    names = ", ".join(Row._fields)
    columns = (
        f"(context, {_event(say)}, key_hash, kind, {say.partition}, due_at,"
        " recorded_at, state, attempts, holds, error)"
    )
    constants = "'pending', 0, FALSE, ''"
    row = f"({', '.join(['%s'] * len(Row._fields))}, {'%s' if timed else say.now}, {constants})"
    conflict = "" if fresh else "ON CONFLICT (message_id) DO NOTHING "
    tail = f"{conflict}RETURNING recorded_at"
    unnested = (
        _unnested(f"{names}, recorded_at", f"{_ROW_TYPES} timestamptz")
        if timed
        else _unnested(names, _ROW_TYPES)
    )
    arrays = (
        f"INSERT INTO {OUTBOX} {columns} SELECT {names}, {'recorded_at' if timed else say.now},"
        f" {constants} {unnested} {tail}"
    )
    return _OutboxInsert(columns, row, tail, arrays)


def insert_stream(
    connection: BaseDatabaseWrapper,
    rows: Sequence[Row],
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
    columns = f"(context, {_event(say)}, key_hash, kind, stream, version, in_outbox, recorded_at)"
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
    return _insert_rows(
        connection,
        f"INSERT INTO {STREAM} {columns}",
        marks,
        "ON CONFLICT DO NOTHING RETURNING recorded_at",
        values,
    )


def stream_version(connection: BaseDatabaseWrapper, context: str, stream: str) -> int:
    """Return the number of events in a stream."""
    rows = _run(
        connection,
        f"SELECT COALESCE(MAX(version), 0) FROM {STREAM} WHERE context = %s AND stream = %s",
        [context, stream],
    )
    return int(rows[0][0])


def hold_stream(connection: BaseDatabaseWrapper, context: str, stream: str, last: int) -> bool:
    """Wait for others who append to a stream that is at version ``last``; false: it has grown.

    Only MySQL needs it; elsewhere the insertion of the next version waits.
    """
    if not isinstance(dialect(connection), MySQL) or not last:
        return True
    mysql.lock_version(connection, STREAM, context, stream, last)
    return stream_version(connection, context, stream) == last


def delete_stored(connection: BaseDatabaseWrapper, message_ids: Sequence[Any]) -> int:
    """Take back what this transaction has just appended, to store all of it or nothing."""
    say = dialect(connection)
    return _change(
        connection,
        f"DELETE FROM {STREAM} WHERE message_id {say.among}",
        [say.members(message_ids)],
    )


# Relay: the caller holds the lock of the outbox partition


class Pending(NamedTuple):
    """One message of a batch of the relay; the text is only there when the transport needs it."""

    id: int
    kind: str
    type: str
    key: str | None
    attempts: int
    holds: bool
    blocked: bool
    message_id: Any
    schema_version: int
    correlation_id: Any
    causation_id: Any
    hops: int
    key_hash: int
    recorded_at: Any
    payload: str | None
    headers: str | None


def select_pending(
    connection: BaseDatabaseWrapper,
    context: str,
    partition: int,
    size: int,
    *,
    text: bool,
    only: int | None = None,
) -> list[Pending]:
    """Return what is to be sent next, in order; followers of a blocked head say so.

    ``text``: with headers and payload. ``only``: the row of this id, if it is still to be sent.
    """
    say = dialect(connection)
    one = "" if only is None else f" AND m.id = {only:d}"
    part = "CASE WHEN m.kind = 'integration' THEN m.{0} END" if text else "NULL"
    rows = _run(
        connection,
        "SELECT m.id, m.kind, m.type, m.key, m.attempts, m.holds, EXISTS ("
        f" SELECT 1 FROM {OUTBOX} h WHERE h.context = m.context AND h.partition = m.partition"
        f" AND h.key = m.key AND h.holds{say.true} AND h.id <> m.id), m.message_id,"
        " m.schema_version, m.correlation_id, m.causation_id, m.hops, m.key_hash,"
        f" {say.utc.format('m.recorded_at')},"
        f" {part.format('payload')}, {part.format('headers')} FROM {OUTBOX} m"
        " WHERE m.context = %s AND m.partition = %s AND m.state = 'pending'"
        f" AND m.due_at IS NULL{one} ORDER BY m.id LIMIT %s",
        [context, partition, size],
    )
    return [Pending(*row) for row in rows]


def select_texts(
    connection: BaseDatabaseWrapper, ids: Sequence[int], *, stored: bool = False
) -> dict[int, tuple[str, str]]:
    """Return payload and headers of outbox messages by their row id.

    ``stored``: of events of the stream by their position.
    """
    say = dialect(connection)
    name, id_ = (STREAM, "position") if stored else (OUTBOX, "id")
    rows = _run(
        connection,
        f"SELECT {id_}, payload, headers FROM {name} WHERE {id_} {say.among}",
        [say.members(ids)],
    )
    return {row[0]: (row[1], row[2]) for row in rows}


def mark_sent(connection: BaseDatabaseWrapper, ids: Sequence[int]) -> int:
    """Mark messages as sent, after the transport has confirmed them (rule O1)."""
    say = dialect(connection)
    return _change(
        connection,
        f"UPDATE {OUTBOX}{say.by_id} SET state = 'sent', holds = FALSE, finished_at = {say.now}"
        f" WHERE id {say.among} AND state = 'pending'",
        [say.members(ids)],
    )


# Relay of a stream: it needs the outbox for what cannot be sent at once


def unfinished_keys(
    connection: BaseDatabaseWrapper, context: str, partition: int, keys: Sequence[str]
) -> set[str]:
    """Return those of some keys of which messages are in the outbox that later ones wait for.

    What is scheduled for the future is waited for by nobody.
    """
    say = dialect(connection)
    one = (
        f"SELECT key FROM {OUTBOX} WHERE context = %s AND partition = %s AND {{}}"
        f" AND key {say.among}"
    )
    which = ("state = 'pending' AND due_at IS NULL", "state = 'waiting'", f"holds{say.true}")
    rows = _run(
        connection,
        " UNION ".join(one.format(each) for each in which),
        [context, partition, say.members(keys)] * 3,
    )
    return {key for (key,) in rows}


_IN_FRONT = -(2**62)


def spill(
    connection: BaseDatabaseWrapper,
    positions: Sequence[int],
    partitions: int,
    *,
    in_front: bool = False,
) -> int:
    """Put events of the stream into the outbox, in order: they are sent from there.

    ``in_front``: before all that is there, which is younger; no sequence gives out such ids.
    """
    say = dialect(connection)
    event = f"context, {_event(say)}, key_hash, kind"
    id_, place = ("id, ", f"position + {_IN_FRONT}, ") if in_front else ("", "")
    return _change(
        connection,
        f"INSERT INTO {OUTBOX} ({id_}{event}, recorded_at, partition, state, attempts, holds,"
        f" error) SELECT {place}{event}, recorded_at, key_hash %% %s, 'pending', 0, FALSE, ''"
        f" FROM {STREAM}"
        f" WHERE position {say.among} ORDER BY position ON CONFLICT (message_id) DO NOTHING",
        [partitions, say.members(positions)],
    )


def bring_forward(connection: BaseDatabaseWrapper, context: str) -> int:
    """Put what an outbox has from the stream before all else, where `spill` would put it."""
    return _change(
        connection,
        f"UPDATE {OUTBOX} SET id = s.position + {_IN_FRONT} FROM {STREAM} s"
        f" WHERE s.message_id = {OUTBOX}.message_id AND NOT s.in_outbox AND {OUTBOX}.context = %s"
        f" AND {OUTBOX}.id > 0 AND {OUTBOX}.state IN ('pending', 'waiting', 'dead')",
        [context],
    )


# Intake: from an outbox or from a transport into an inbox


class Received(NamedTuple):
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
    event = _event(say)
    name, id_ = (STREAM, "position") if stored else (OUTBOX, "id")
    if isinstance(say, MySQL):
        return mysql.move_to_inbox(connection, say, event, ids, context, source)
    rows = _run(
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
    rows: Sequence[Received],
    context: str,
    source: str,
    statement: str,
) -> list[int]:
    """Insert with one array a column; ``statement`` has a gap where the rows come from."""
    columns = ", ".join(Received._fields)
    selected = (
        f"SELECT %s, %s, {columns}, {dialect(connection).now} {_unnested(columns, _RECEIVED_TYPES)}"
    )
    found = run_apart(
        connection,
        f"INSERT INTO {INBOX} {statement.format(selected)}",
        [context, source, *map(list, zip(*rows, strict=True))],
    )
    return [row[0] for row in found]


def insert_inbox(
    connection: BaseDatabaseWrapper, rows: Sequence[Received], context: str, source: str
) -> list[int]:
    """Insert messages that came from elsewhere; return the ids of the new rows (rule O7)."""
    say = dialect(connection)
    columns = f"(context, source, {_event(say)}, key_hash, recorded_at, received_at)"
    tail = "ON CONFLICT (context, source, message_id) DO NOTHING RETURNING id"
    if say.arrays:
        return _insert_inbox_arrays(connection, rows, context, source, f"{columns} {{}} {tail}")
    marks = f"({', '.join(['%s'] * (2 + len(Received._fields)))}, {say.now})"
    values = [(context, source, *map(say.uuid, row)) for row in rows]
    if isinstance(say, MySQL):
        scope = {"context": context, "source": source}
        insert = mysql.Insert(
            table=INBOX, columns=columns, row=marks, returning="id", place=2, scope=scope
        )
        returned = mysql.insert_new(connection, say, insert, values)
    else:
        returned = _insert_rows(connection, f"INSERT INTO {INBOX} {columns}", marks, tail, values)
    return [row[0] for row in returned]


def select_payloads(
    connection: BaseDatabaseWrapper, message_ids: Sequence[UUID], context: str, source: str
) -> dict[UUID, str]:
    """Return the payloads of inbox messages by their ids."""
    say = dialect(connection)
    rows = _run(
        connection,
        f"SELECT message_id, payload FROM {INBOX} WHERE context = %s AND source = %s"
        f" AND message_id {say.among}",
        [context, source, say.members(message_ids)],
    )
    return {as_uuid(row[0]): row[1] for row in rows}


def insert_deliveries(
    connection: BaseDatabaseWrapper,
    message_ids: Sequence[int],
    interests: Sequence[Interest],
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
    _change(
        connection,
        f"WITH c (type, consumer, hash) AS (VALUES {consumers}){insert.format('c')}",
        [
            *(value for interest in interests for value in interest),
            partitions,
            say.members(message_ids),
        ],
    )


# Dispatch


class Ready(NamedTuple):
    """One delivery that was read ahead, with its message."""

    id: int
    consumer: str
    attempts: int
    holds: bool
    blocked: bool
    message_id: Any
    type: str
    schema_version: int
    source: str
    key: str | None
    recorded_at: Any
    correlation_id: Any
    causation_id: Any
    hops: int
    headers: str
    payload: str


def select_ready(
    connection: BaseDatabaseWrapper, context: str, partition: int, size: int
) -> list[Ready]:
    """Read ahead what is to be handled next, in order; followers of a blocked head say so."""
    say = dialect(connection)
    rows = _run(
        connection,
        "SELECT d.id, d.consumer, d.attempts, d.holds, EXISTS ("
        f" SELECT 1 FROM {DELIVERY} h WHERE h.context = d.context AND h.partition = d.partition"
        f" AND h.consumer = d.consumer AND h.key = d.key AND h.holds{say.true} AND h.id <> d.id),"
        " m.message_id, m.type, m.schema_version, m.source, m.key,"
        f" {say.utc.format('m.recorded_at')}, m.correlation_id, m.causation_id, m.hops, m.headers, m.payload"
        f" FROM {DELIVERY} d JOIN {INBOX} m ON m.id = d.message_id"
        " WHERE d.context = %s AND d.partition = %s AND d.state = 'ready'"
        " AND d.due_at IS NULL ORDER BY d.id LIMIT %s",
        [context, partition, size],
    )
    return [Ready(*row) for row in rows]


def claim(
    connection: BaseDatabaseWrapper, partition: int, run: Any, freeze_ms: int, delivery: int
) -> bool:
    """Take the partition lock and mark one delivery as done, in one statement.

    False: somebody else is at work on the partition or was there since it was read ahead.
    """
    say = dialect(connection)
    if isinstance(say, MySQL):
        return mysql.claim(connection, say, partition, run, delivery)
    parameters = [str(freeze_ms), partition, say.uuid(run), delivery]
    return bool(_run_hot(connection, _claim(say), parameters))


@cache
def _claim(say: Dialect) -> str:
    # PostgreSQL re-checks the WHERE of the UPDATE on the newest version of the row, so a delivery
    # that another worker finished between our snapshot and our lock does not match any more.
    return (
        f"WITH held AS (SELECT id, {say.freeze_guard} FROM {PARTITION}"
        f" WHERE id = %s AND run = %s AND NOT paused {say.skip_locked})"
        f" UPDATE {DELIVERY} SET state = 'done', holds = FALSE, finished_at = {say.now}"
        " WHERE id = %s AND state = 'ready' AND due_at IS NULL AND EXISTS (SELECT 1 FROM held)"
        " RETURNING id"
    )


def mark_done(connection: BaseDatabaseWrapper, ids: Sequence[int]) -> int:
    """Mark deliveries as done, in the transaction of their effects (rule O5)."""
    say = dialect(connection)
    return _change(
        connection,
        f"UPDATE {DELIVERY}{say.by_id} SET state = 'done', holds = FALSE, finished_at = {say.now}"
        f" WHERE id {say.among} AND state = 'ready'",
        [say.members(ids)],
    )


def insert_attempt(
    connection: BaseDatabaseWrapper, delivery: int, number: int, error: str, traceback: str
) -> None:
    """Keep one failed attempt."""
    say = dialect(connection)
    _change(
        connection,
        f"INSERT INTO {ATTEMPT} (delivery_id, number, failed_at, error, traceback)"
        f" VALUES (%s, %s, {say.now}, %s, %s)",
        [delivery, number, error, traceback],
    )


# Partitions


SILENCE = 2.0
"""Seconds without a sign of life after which a run that nobody ended is taken for crashed.

Who works on a partition is settled by its lock alone. This only says how soon others assume a
crash while a partition is free, so that they leave it to a worker that is between two transactions.
"""


class Held(NamedTuple):
    """A partition row of which this transaction has the lock."""

    paused: bool
    run: Any


class Work(NamedTuple):
    """A partition and whether there is something to do in it now."""

    id: int
    number: int
    paused: bool
    run: Any
    outages: int
    resting: bool
    live: bool
    ready: bool
    due: bool
    """Some of the work has waited for its time."""


def lock_partition(
    connection: BaseDatabaseWrapper, partition: int, freeze_ms: int, *, free: bool = False
) -> Held | None:
    """Take a partition's row lock; None: somebody else has it.

    ``free``: only if nobody is at work there, in a transaction or between two. Who is must not
    find the row locked by somebody who had but a look.

    SQLite has no row locks. There the first statement of the transaction is a write, which takes
    the database's only write lock, also where transactions do not begin with IMMEDIATE.
    """
    say = dialect(connection)
    where = "WHERE id = %s" + (f" AND {_free(say)}" if free else "")
    silence = [-SILENCE] if free else []
    if free and isinstance(say, MySQL):
        # InnoDB locks a row to find out that it does not fit, and unlocks it again.
        look = f"SELECT 1 FROM {PARTITION} {where}"
        if not _run(connection, look, [partition, *silence]):
            return None
    if say.skip_locked:
        rows = _run(
            connection,
            f"SELECT paused, run, {say.freeze_guard} FROM {PARTITION} {where} {say.skip_locked}",
            [str(freeze_ms), partition, *silence],
        )
    else:
        rows = _run(
            connection,
            f"UPDATE {PARTITION} SET number = number {where} RETURNING paused, run",
            [partition, *silence],
        )
    return Held(bool(rows[0][0]), rows[0][1]) if rows else None


def begin_run(connection: BaseDatabaseWrapper, partition: int, run: Any) -> Held | None:
    """Do as `lock_partition` with ``free``, and `set_run`, in one statement; PostgreSQL only.

    Outside of a transaction it is one trip instead of four. Held has the run from before.
    """
    say = dialect(connection)
    rows = _run(
        connection,
        f"WITH held AS (SELECT id, run FROM {PARTITION} WHERE id = %s AND {_free(say)}"
        f" {say.skip_locked}) UPDATE {PARTITION} p SET run = %s, last_run_at = {say.now}"
        " FROM held WHERE p.id = held.id RETURNING held.run",
        [partition, -SILENCE, run],
    )
    return Held(paused=False, run=rows[0][0]) if rows else None


def _free(say: Dialect) -> str:
    """Return the condition that nobody is at work on a partition, nor between two transactions."""
    return f"NOT paused AND (run IS NULL OR last_run_at IS NULL OR last_run_at <= {say.later})"


@contextmanager
def guarded(connection: BaseDatabaseWrapper, freeze_ms: int) -> Iterator[None]:
    """Have MariaDB and MySQL throw out this session, within the block, when it freezes.

    They know no such limit for one transaction, as PostgreSQL does with every lock taken.
    """
    say = dialect(connection)
    if not isinstance(say, MySQL):
        yield
        return
    session = connection.connection
    mysql.guard_session(connection, say, freeze_ms)
    try:
        yield
    finally:
        # Another session never had the limit, and a broken one has none any more.
        if connection.connection is session and connection.is_usable():
            mysql.unguard_session(connection, say)


def set_run(connection: BaseDatabaseWrapper, partition: int, run: Any) -> None:
    """Write who is at work on a partition now, or (None) that it was left with a clean end."""
    say = dialect(connection)
    _change(
        connection,
        f"UPDATE {PARTITION} SET run = %s, last_run_at = {say.now} WHERE id = %s",
        [say.uuid(run), partition],
    )


def end_run(connection: BaseDatabaseWrapper, partition: int, run: Any) -> None:
    """Take away a token, unless it is another's by now; waits for who has the lock for a moment."""
    say = dialect(connection)
    _change(
        connection,
        f"UPDATE {PARTITION} SET run = NULL, last_run_at = {say.now} WHERE id = %s AND run = %s",
        [partition, say.uuid(run)],
    )


def rest_partition(
    connection: BaseDatabaseWrapper, partition: int, error: str, seconds: float
) -> None:
    """End a run with an outage: the partition rests for so many seconds."""
    say = dialect(connection)
    _change(
        connection,
        f"UPDATE {PARTITION} SET run = NULL, outages = outages + 1, error = %s,"
        f" retry_at = {say.later} WHERE id = %s",
        [error, seconds, partition],
    )


def wake_partition(connection: BaseDatabaseWrapper, partition: int) -> None:
    """Forget an outage that is over."""
    _change(
        connection,
        f"UPDATE {PARTITION} SET outages = 0, error = '', retry_at = NULL WHERE id = %s",
        [partition],
    )


def look(
    connection: BaseDatabaseWrapper, context: str, queue: str, model: type[models.Model] | None
) -> list[Work]:
    """Say for each partition of a queue whether there is work, without reading the queue.

    Partitions that were left without a clean end, or that somebody is working on, come last.
    ``model`` is what the queue is made of; None: only the transport knows, so there may be work.
    """
    say = dialect(connection)
    waits, due = ("TRUE", "FALSE") if model is None else (_waits(model), _is_due(say, model))
    found = _run(
        connection,
        f"SELECT {_partition(say)}, {waits}, {due}"
        f" FROM {PARTITION} p WHERE p.context = %s AND p.queue = %s"
        " ORDER BY p.run IS NOT NULL, p.number",
        [-SILENCE, context, queue],
    )
    return [_work(row) for row in found]


def look_at_all(
    connection: BaseDatabaseWrapper, contexts: Sequence[str]
) -> list[tuple[str, str, Work]]:
    """Return context, queue and partition, as `look` does, for all queues of some contexts.

    The work of an intake is at the transport, so there may always be some.
    """
    say = dialect(connection)
    both = [
        f"CASE p.queue WHEN 'outbox' THEN {exists(OutboxMessage)}"
        f" WHEN 'inbox' THEN {exists(Delivery)} ELSE {otherwise} END"
        for exists, otherwise in ((_waits, "TRUE"), (partial(_is_due, say), "FALSE"))
    ]
    found = _run(
        connection,
        f"SELECT p.context, p.queue, {_partition(say)}, {', '.join(both)}"
        f" FROM {PARTITION} p WHERE p.context {say.among}"
        " ORDER BY p.run IS NOT NULL, p.number",
        [-SILENCE, say.members(contexts)],
    )
    return [(context, queue, _work(row)) for context, queue, *row in found]


def _partition(say: Dialect) -> str:
    return (
        "p.id, p.number, p.paused, p.run, p.outages,"
        f" p.retry_at IS NOT NULL AND p.retry_at > {say.now},"
        f" p.run IS NOT NULL AND p.last_run_at > {say.later}"
    )


def _work(row: Sequence[Any]) -> Work:
    id_, number, paused, run, outages, resting, live, waits, due = row
    ready = bool(waits or due)
    return Work(
        id_, number, bool(paused), run, outages, bool(resting), bool(live), ready, bool(due)
    )


def _waits(model: type[models.Model]) -> str:
    return f"EXISTS ({_idle_rows(model)} IS NULL)"


def _is_due(say: Dialect, model: type[models.Model]) -> str:
    return f"EXISTS ({_idle_rows(model)} <= {say.now})"


def _idle_rows(model: type[models.Model]) -> str:
    return (
        f"SELECT 1 FROM {table(model)} m WHERE m.context = p.context AND m.partition = p.number"
        f" AND m.state = '{idle_state(model)}' AND m.due_at"
    )


# Both queues: ``model`` is OutboxMessage or Delivery


def idle_state(model: type[models.Model]) -> str:
    """Return the state in which a row waits for its mover."""
    return "pending" if model is OutboxMessage else "ready"


def promote(
    connection: BaseDatabaseWrapper, model: type[models.Model], context: str, partition: int
) -> int:
    """Make rows available whose time has come, in the order of their ids."""
    say = dialect(connection)
    where = (
        f"context = %s AND {say.partition} = %s"
        f" AND state = '{idle_state(model)}' AND due_at <= {say.now}"
    )
    if isinstance(say, MySQL):
        return mysql.update(connection, table(model), "due_at = NULL", where, [context, partition])
    return _change(
        connection, f"UPDATE {table(model)} SET due_at = NULL WHERE {where}", [context, partition]
    )


def park(connection: BaseDatabaseWrapper, model: type[models.Model], ids: Sequence[int]) -> int:
    """Let followers of a blocked head wait (rules O3 and O6)."""
    say = dialect(connection)
    return _change(
        connection,
        f"UPDATE {table(model)}{say.by_id} SET state = 'waiting'"
        f" WHERE id {say.among} AND state = '{idle_state(model)}'",
        [say.members(ids)],
    )


def count_attempt(
    connection: BaseDatabaseWrapper, model: type[models.Model], row: int, by: int = 1
) -> int:
    """Change the number of attempts of one row that is still to be worked on."""
    return _change(
        connection,
        f"UPDATE {table(model)} SET attempts = attempts + %s"
        f" WHERE id = %s AND state = '{idle_state(model)}'",
        [by, row],
    )


def back_off(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    row: int,
    *,
    attempts: int,
    holds: bool,
    error: str,
    seconds: float,
) -> int:
    """Store a failed attempt that will be followed by another."""
    say = dialect(connection)
    return _change(
        connection,
        f"UPDATE {table(model)} SET attempts = %s, holds = %s, error = %s, due_at = {say.later}"
        f" WHERE id = %s AND state = '{idle_state(model)}'",
        [attempts, holds, error, seconds, row],
    )


def bury(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    row: int,
    *,
    attempts: int,
    holds: bool,
    error: str,
) -> int:
    """Store the last failed attempt: the row is dead."""
    say = dialect(connection)
    return _change(
        connection,
        f"UPDATE {table(model)} SET state = 'dead', attempts = %s, holds = %s, error = %s,"
        f" finished_at = {say.now} WHERE id = %s AND state = '{idle_state(model)}'",
        [attempts, holds, error, row],
    )


def release_messages(
    connection: BaseDatabaseWrapper, context: str, partition: int, keys: Sequence[str]
) -> int:
    """Let the followers of keys go whose blocked head is solved."""
    say = dialect(connection)
    where = f"context = %s AND {say.partition} = %s AND state = 'waiting' AND {say.key} {say.among}"
    parameters = [context, partition, say.members(keys)]
    if isinstance(say, MySQL):
        return mysql.update(connection, OUTBOX, "state = 'pending'", where, parameters)
    return _change(connection, f"UPDATE {OUTBOX} SET state = 'pending' WHERE {where}", parameters)


def release_deliveries(
    connection: BaseDatabaseWrapper,
    context: str,
    partition: int,
    pairs: Sequence[tuple[str, str]],
) -> int:
    """Let the followers of (consumer, key) pairs go whose blocked head is solved."""
    say = dialect(connection)
    if isinstance(say, MySQL):
        return mysql.release_deliveries(connection, say, context, partition, pairs)
    chosen = ", ".join(["(%s, %s)"] * len(pairs))
    return _change(
        connection,
        f"UPDATE {DELIVERY} SET state = 'ready' WHERE context = %s AND partition = %s"
        f" AND state = 'waiting' AND (consumer, key) IN (VALUES {chosen})",
        [context, partition, *(value for pair in pairs for value in pair)],
    )
