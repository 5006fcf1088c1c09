"""The names of the tables, and how a statement is run through Django's cursor."""

from collections.abc import Sequence
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.models import (
    Checkpoint,
    Delivery,
    DeliveryAttempt,
    InboxMessage,
    Interest,
    OutboxMessage,
    Partition,
    QuarantinedMessage,
    QueueLayout,
    StoredEvent,
    table,
)

OUTBOX = table(OutboxMessage)
INBOX = table(InboxMessage)
DELIVERY = table(Delivery)
ATTEMPT = table(DeliveryAttempt)
STREAM = table(StoredEvent)
PARTITION = table(Partition)
CHECKPOINT = table(Checkpoint)
QUARANTINE = table(QuarantinedMessage)
INTEREST = table(Interest)
LAYOUT = table(QueueLayout)


def fetch_rows(
    connection: BaseDatabaseWrapper, statement: str, parameters: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """Run a statement; return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def change_rows(connection: BaseDatabaseWrapper, statement: str, parameters: Sequence[Any]) -> int:
    """Run a statement; return the number of rows that it has changed."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return int(cursor.rowcount)


def positions_change(positions: str | None) -> tuple[str, list[str]]:
    """Return what an UPDATE of a partition has behind its other columns, and its parameter."""
    return ("", []) if positions is None else (", positions = %s", [positions])
