"""What the statements have in common: the tables, how rows are inserted, how they are run."""

from collections.abc import Sequence
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.models import (
    Checkpoint,
    Delivery,
    DeliveryAttempt,
    InboxMessage,
    OutboxMessage,
    Partition,
    StoredEvent,
    table,
)

from .dialects import Dialect, dialect, run_apart

OUTBOX = table(OutboxMessage)
INBOX = table(InboxMessage)
DELIVERY = table(Delivery)
ATTEMPT = table(DeliveryAttempt)
STREAM = table(StoredEvent)
PARTITION = table(Partition)
CHECKPOINT = table(Checkpoint)

_CHUNK = 500  # rows in one INSERT: below SQLite's limit of 32,766 parameters
FEW = 8  # rows that are sent faster one by one than as arrays
_EVENT = (
    "message_id, type, schema_version, {key}, payload, headers, correlation_id, causation_id, hops"
)


def event_columns(say: Dialect) -> str:
    """Return the columns that every table of messages has, in the order of `Row`."""
    return _EVENT.format(key=say.key)


def fetch(
    connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """Run a statement through Django's cursor; return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def fetch_hot(
    connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """Do as `fetch`, with less work where that is possible."""
    run = run_apart if dialect(connection).arrays else fetch
    return run(connection, sql, parameters)


def change(connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any]) -> int:
    """Run a statement through Django's cursor; return how many rows it has changed."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return int(cursor.rowcount)


def insert_rows(
    connection: BaseDatabaseWrapper, head: str, row: str, tail: str, rows: Sequence[Sequence[Any]]
) -> list[tuple[Any, ...]]:
    """Insert rows with as few statements as their number allows; return what came back."""
    returned: list[tuple[Any, ...]] = []
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        returned += fetch_hot(
            connection,
            f"{head} VALUES {', '.join([row] * len(chunk))} {tail}",
            [value for each in chunk for value in each],
        )
    return returned


def insert_arrays(
    connection: BaseDatabaseWrapper, sql: str, rows: Sequence[Sequence[Any]]
) -> list[tuple[Any, ...]]:
    """Do as `insert_rows`, with one array a column: a third of its work for a hundred rows."""
    returned: list[tuple[Any, ...]] = []
    for start in range(0, len(rows), _CHUNK):
        columns = zip(*rows[start : start + _CHUNK], strict=True)
        returned += run_apart(connection, sql, list(map(list, columns)))
    return returned


def unnest(columns: str, kinds: str) -> str:
    """Return the FROM of rows that come as one array a column, in their order.

    The order of the rows is that of the messages, whatever the planner thinks of next.
    """
    arrays = ", ".join(f"%b::{kind}[]" for kind in kinds.split())
    return f"FROM unnest({arrays}) WITH ORDINALITY AS r ({columns}, n) ORDER BY n"
