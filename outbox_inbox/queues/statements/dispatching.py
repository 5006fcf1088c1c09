"""The statements of the dispatcher: what is ready in an inbox partition, its claim, its result."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from .common import ATTEMPT, DELIVERY, INBOX, change_rows, fetch_rows
from .dialects import Dialect, dialect


class ReadyRow(NamedTuple):
    """A row of the table of deliveries that was read ahead, with its inbox message."""

    id: int
    consumer: str
    attempts: int
    failed: bool
    """Its last attempt has failed, and did not end its worker."""
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


class UnknownType(NamedTuple):
    """A consumer, and a type and version of its messages, that a process cannot handle.

    Without a type it is the consumer as a whole.
    """

    consumer: str
    type: str = ""
    schema_version: int = 0


def select_ready(
    connection: BaseDatabaseWrapper,
    context: str,
    partition: int,
    size: int,
    unknown: Sequence[UnknownType] = (),
) -> list[ReadyRow]:
    """Return what is to be handled next, in order; followers of a blocked head have ``blocked``.

    ``unknown``: without these, which this process leaves to others, unless they are to hold the
    later ones of their key, and do not yet.
    """
    sql = dialect(connection)
    return _ready_rows(
        connection,
        sql.forced_index(DELIVERY),
        f"{_is_ready(sql)}{_without(sql, unknown)} ORDER BY {sql.partition_order('d')} LIMIT %s",
        [*sql.partition_values(context, partition), *_values(unknown), size],
    )


def select_groups(
    connection: BaseDatabaseWrapper,
    context: str,
    partition: int,
    size: int,
    unknown: Sequence[UnknownType] = (),
) -> list[tuple[int, str, str | None]]:
    """Return id, consumer and key of what is to be handled next, in order.

    To read them in the database and rank them here takes a fifth of the time of a window function,
    which sorts by text.
    """
    sql = dialect(connection)
    message = (
        f" JOIN {INBOX} m ON m.id = d.message_id" if any(each.type for each in unknown) else ""
    )
    rows = fetch_rows(
        connection,
        f"SELECT d.id, d.consumer, d.key FROM {DELIVERY} d{sql.forced_index(DELIVERY)}{message}"
        f" WHERE {_is_ready(sql)}{_without(sql, unknown)} ORDER BY {sql.partition_order('d')} LIMIT %s",
        [*sql.partition_values(context, partition), *_values(unknown), size],
    )
    return [(id_, consumer, key) for id_, consumer, key in rows]


def select_ready_among(connection: BaseDatabaseWrapper, ids: Sequence[int]) -> list[ReadyRow]:
    """Return those of some deliveries that are ready, in order, as `select_ready` does."""
    sql = dialect(connection)
    chosen = f"d.id {sql.among} AND d.state = 'ready' AND d.due_at IS NULL ORDER BY d.id"
    return _ready_rows(connection, sql.by_id, chosen, [sql.members(ids)])


def _ready_rows(
    connection: BaseDatabaseWrapper, hint: str, where: str, values: Sequence[Any]
) -> list[ReadyRow]:
    sql = dialect(connection)
    rows = fetch_rows(
        connection,
        "SELECT d.id, d.consumer, d.attempts, d.error <> '', d.holds, EXISTS ("
        f" SELECT 1 FROM {DELIVERY} h WHERE h.context = d.context AND h.partition = d.partition"
        f" AND h.consumer = d.consumer AND h.key = d.key AND h.holds{sql.true} AND h.id <> d.id),"
        " m.message_id, m.type, m.schema_version, m.source, m.key,"
        f" {sql.time_column('m.recorded_at')}, m.correlation_id, m.causation_id, m.hops,"
        " m.headers, m.payload"
        f" FROM {DELIVERY} d{hint} JOIN {INBOX} m ON m.id = d.message_id WHERE {where}",
        values,
    )
    return [ReadyRow(*row) for row in rows]


def _is_ready(sql: Dialect) -> str:
    return f"{sql.in_partition('d')} AND d.state = 'ready' AND d.due_at IS NULL"


def _without(sql: Dialect, unknown: Sequence[UnknownType]) -> str:
    # One that does not hold must be read: the others of its key would be handled before it.
    passed = f" AND NOT ((d.holds{sql.true} OR d.key IS NULL) AND d.consumer = %s"
    return "".join(
        f"{passed} AND m.type = %s AND m.schema_version = %s)" if each.type else f"{passed})"
        for each in unknown
    )


def _values(unknown: Sequence[UnknownType]) -> Iterator[str | int]:
    """Return the parameters of `_without`."""
    return chain.from_iterable(each if each.type else each[:1] for each in unknown)


def hold_deliveries(connection: BaseDatabaseWrapper, ids: Sequence[int]) -> int:
    """Let deliveries that are not touched here hold the later ones of their keys (rule O6)."""
    sql = dialect(connection)
    return change_rows(
        connection,
        f"UPDATE {DELIVERY}{sql.by_id} SET holds = TRUE WHERE id {sql.among} AND state = 'ready'",
        [sql.members(ids)],
    )


def claim_delivery(
    connection: BaseDatabaseWrapper, partition: int, run: Any, freeze_ms: int, delivery: int
) -> bool:
    """Take the partition lock and mark one delivery as done, in the transaction of its effects.

    One statement (two on MySQL): a lock in a statement of its own would cost every message a trip.
    False: another worker has the lock, or has been on the partition since, and may have handled
    what was read ahead, or a message before it that failed and blocks it.
    """
    return dialect(connection).claim_delivery(connection, partition, run, freeze_ms, delivery)


def mark_done(connection: BaseDatabaseWrapper, ids: Sequence[int]) -> int:
    """Mark deliveries as done, in the transaction of their effects (rule O5)."""
    # In a transaction before, a crash would lose the effects; in one after, it would apply them twice.
    sql = dialect(connection)
    return change_rows(
        connection,
        f"UPDATE {DELIVERY}{sql.by_id} SET state = 'done', holds = FALSE, finished_at = {sql.now}"
        f" WHERE id {sql.among} AND state = 'ready'",
        [sql.members(ids)],
    )


def reopen_delivery(connection: BaseDatabaseWrapper, delivery: int) -> int:
    """Make a delivery ready again that its consumer has committed as done, and has failed at."""
    return change_rows(
        connection,
        f"UPDATE {DELIVERY} SET state = 'ready', finished_at = NULL WHERE id = %s AND state = 'done'",
        [delivery],
    )


def insert_attempt(
    connection: BaseDatabaseWrapper, delivery: int, number: int, error: str, traceback: str
) -> None:
    """Store one failed attempt with its traceback."""
    sql = dialect(connection)
    change_rows(
        connection,
        f"INSERT INTO {ATTEMPT} (delivery_id, number, failed_at, error, traceback)"
        f" VALUES (%s, %s, {sql.now}, %s, %s)",
        [delivery, number, error, traceback],
    )
