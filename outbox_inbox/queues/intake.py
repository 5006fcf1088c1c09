"""How messages get into an inbox: one row a message, one delivery for each consumer of its type.

The unique constraint of the inbox drops duplicates, within the statement that inserts: two processes
that looked before both would find nothing, and the message be handled twice (rule O7).
"""

from collections.abc import Sequence

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf import settings
from outbox_inbox.contexts import Context

from . import statements


def move_messages(
    connection: BaseDatabaseWrapper,
    rows: Sequence[int],
    into: str,
    source: str,
    *,
    stored: bool = False,
) -> int:
    """Copy outbox rows into an inbox of the same database, in the caller's transaction.

    Arguments:
        rows: ids of the outbox rows, or (``stored``) positions in the stream, in order.
        into: label of the context whose inbox it is; this process's code may not have it.
        source: label of the context that recorded them.

    Returns:
        How many were new; one whose id is there already is dropped (rule O7).
    """
    new = statements.move_to_inbox(connection, rows, into, source, stored=stored)
    create_deliveries(connection, new)
    return len(new)


def insert_messages(
    rows: Sequence[statements.ReceivedRow], into: str, source: str, using: str
) -> int:
    """Insert messages from a transport in the open transaction of a database.

    ``into`` and the returned number are as those of `move_messages`.
    """
    connection = connections[using]
    new = statements.insert_inbox(connection, rows, into, source)
    create_deliveries(connection, new)
    return len(new)


def conflicting_rows(
    rows: Sequence[statements.ReceivedRow], into: Context, source: str
) -> list[statements.ReceivedRow]:
    """Return those whose id is in the inbox with another payload: not a duplicate, but a conflict."""
    connection = connections[into.database]
    ids = [row.message_id for row in rows]
    known = statements.select_payloads(connection, ids, into.label, source)
    return [row for row in rows if known.get(row.message_id, row.payload) != row.payload]


def create_deliveries(connection: BaseDatabaseWrapper, new: Sequence[int]) -> None:
    """Create the deliveries of new inbox rows."""
    statements.insert_deliveries(connection, new, settings().partitions.inbox)
