"""Intake: from an outbox or from a transport into an inbox, with a delivery for each consumer."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from ..contents import Contents
from .common import DELIVERY, INBOX, INTEREST, OUTBOX, STREAM, change_rows, fetch_rows
from .dialects import Insert, as_uuid, dialect
from .layouts import Layout, partition_of


class ReceivedRow(NamedTuple):
    """One message from outside, as `insert_inbox` writes it to the table of inbox messages."""

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


_INTO_INBOX = Insert(
    table=INBOX,
    columns=ReceivedRow._fields,
    types="uuid text int text text text uuid uuid int bigint timestamptz",
    constants={"received_at": "{now}"},
    shared=("context", "source"),
    unique="(context, source, message_id)",
    returning="id",
    batch=10_000,  # the greatest BATCH_SIZE: a receiver bounds its batches in bytes as well
)


_MOST_MESSAGES = 1_000_000  # more than a batch ever has


def move_to_inbox(
    connection: BaseDatabaseWrapper,
    ids: Sequence[int],
    context: str,
    source: str,
    *,
    stored: bool = False,
) -> list[int]:
    """Copy outbox messages into an inbox of the same database; return the ids of the new rows.

    The unique constraint leaves out messages that are there already (rule O7). ``stored``: they
    are events of the stream, named by their positions.
    """
    name, id_ = (STREAM, "position") if stored else (OUTBOX, "id")
    return dialect(connection).move_to_inbox(connection, name, id_, ids, context, source)


def insert_inbox(
    connection: BaseDatabaseWrapper, rows: Sequence[ReceivedRow], context: str, source: str
) -> list[int]:
    """Insert messages that came from elsewhere; return the ids of the new rows (rule O7)."""
    shared = (context, source)
    returned = dialect(connection).insert_new(connection, _INTO_INBOX, rows, shared)
    return [row[0] for row in returned]


def select_contents(
    connection: BaseDatabaseWrapper, message_ids: Sequence[UUID], context: str, source: str
) -> dict[UUID, Contents]:
    """Return what inbox messages say, by their ids."""
    sql = dialect(connection)
    rows = fetch_rows(
        connection,
        f"SELECT message_id, type, schema_version, {sql.key}, payload, headers, digest FROM {INBOX}"
        f" WHERE context = %s AND source = %s AND message_id {sql.among}",
        [context, source, sql.members(message_ids)],
    )
    return {as_uuid(row[0]): Contents(*row[1:]) for row in rows}


def select_twins(
    connection: BaseDatabaseWrapper,
    ids: Sequence[int],
    context: str,
    source: str,
    *,
    stored: bool = False,
) -> dict[int, tuple[Contents, Contents]]:
    """Return what outbox messages say, and what the inbox messages with their ids say, by row."""
    sql = dialect(connection)
    name, id_ = (STREAM, "position") if stored else (OUTBOX, "id")
    said = ", ".join(
        f"{alias}.{column}"
        for alias in "mi"
        for column in ("type", "schema_version", sql.key, "payload", "headers")
    )
    rows = fetch_rows(
        connection,
        f"SELECT m.{id_}, {said}, i.digest FROM {name} m JOIN {INBOX} i ON i.message_id = m.message_id"
        f" WHERE m.{id_} {sql.among} AND i.context = %s AND i.source = %s",
        [sql.members(ids), context, source],
    )
    return {row[0]: (Contents(*row[1:6]), Contents(*row[6:])) for row in rows}


def insert_deliveries(
    connection: BaseDatabaseWrapper, message_ids: Sequence[int], layout: Layout
) -> None:
    """Make one delivery for each new inbox message and each consumer that wants its type.

    ``layout``: what the settings say of the context of the inbox, where none is stored.
    """
    if not message_ids:
        return
    sql = dialect(connection)
    # For the consumers in the database, not for those of this process: it may be older than the code
    # that records. The partition is (hash of the consumer XOR hash of the key) % partitions; XOR is
    # written as (a | b) - (a & b), which every database has.
    partition = partition_of(
        sql, "((m.key_hash | i.hash) - (m.key_hash & i.hash))", "inbox", layout
    )
    change_rows(
        connection,
        f"INSERT INTO {DELIVERY} (message_id, context, consumer, {sql.partition}, {sql.key},"
        " state, attempts, holds, error)"
        f" SELECT m.id, m.context, i.name, {partition}, m.key, 'ready', 0, FALSE, ''"
        # With a LIMIT the messages are found once. Without statistics a planner would otherwise look
        # all of them up again for each interest.
        f" FROM (SELECT id, context, type, {sql.key}, key_hash FROM {INBOX}"
        f" WHERE id {sql.among} ORDER BY id LIMIT {_MOST_MESSAGES}) m"
        f" JOIN {INTEREST} i ON i.context = m.context AND i.kind = 'consumer'"
        " AND i.type = m.type AND i.retired_at IS NULL ORDER BY m.id, i.id",
        [sql.members(message_ids)],
    )
