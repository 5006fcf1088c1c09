"""Dispatch: what is ready in an inbox partition, its claim, and what came of it."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from . import mysql
from .common import ATTEMPT, DELIVERY, INBOX, PARTITION, change, fetch, fetch_hot
from .dialects import Dialect, MySQL, dialect


class ReadyRow(NamedTuple):
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
) -> list[ReadyRow]:
    """Read ahead what is to be handled next, in order; followers of a blocked head say so."""
    say = dialect(connection)
    rows = fetch(
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
    return [ReadyRow(*row) for row in rows]


def claim_delivery(
    connection: BaseDatabaseWrapper, partition: int, run: Any, freeze_ms: int, delivery: int
) -> bool:
    """Take the partition lock and mark one delivery as done, in one statement.

    False: somebody else is at work on the partition or was there since it was read ahead.
    """
    say = dialect(connection)
    if isinstance(say, MySQL):
        return mysql.claim(connection, say, partition, run, delivery)
    parameters = [str(freeze_ms), partition, say.uuid(run), delivery]
    return bool(fetch_hot(connection, _claim(say), parameters))


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
    return change(
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
    change(
        connection,
        f"INSERT INTO {ATTEMPT} (delivery_id, number, failed_at, error, traceback)"
        f" VALUES (%s, %s, {say.now}, %s, %s)",
        [delivery, number, error, traceback],
    )
