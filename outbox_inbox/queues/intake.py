"""How messages get into an inbox: one row a message, one delivery for each consumer of its type.

The unique constraint of the inbox drops duplicates, within the statement that inserts: two processes
that looked before both would find nothing, and the message be handled twice (rule O7).
"""

from collections.abc import Sequence

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from . import statements
from .contents import conflict_between, contents_of
from .layouts import layout_in_settings


def move_messages(
    connection: BaseDatabaseWrapper,
    rows: Sequence[int],
    into: str,
    source: str,
    *,
    stored: bool = False,
) -> dict[int, str]:
    """Copy outbox rows into an inbox of the same database, in the caller's transaction.

    Arguments:
        rows: ids of the outbox rows, or (``stored``) positions in the stream, in order.
        into: label of the context whose inbox it is; this process's code may not have it.
        source: label of the context that recorded them.

    Returns:
        The conflicts: row -> in what it differs from the inbox message that has its id. A row that
        says the same is a repetition, and is dropped (rule O7).
    """
    new = statements.move_to_inbox(connection, rows, into, source, stored=stored)
    create_deliveries(connection, new, into)
    if len(new) == len(rows):
        return {}
    twins = statements.select_twins(connection, rows, into, source, stored=stored)
    found = {row: conflict_between(*each) for row, each in twins.items()}
    return {row: conflict for row, conflict in found.items() if conflict}


def insert_messages(
    rows: Sequence[statements.ReceivedRow], into: str, source: str, using: str
) -> int:
    """Insert messages from a transport in the open transaction of a database; return how many were new.

    One whose id is there already is dropped; `conflicting_rows` says which of them must not be.
    ``into`` is as that of `move_messages`.
    """
    connection = connections[using]
    new = statements.insert_inbox(connection, rows, into, source)
    create_deliveries(connection, new, into)
    return len(new)


def conflicting_rows(
    rows: Sequence[statements.ReceivedRow], into: str, source: str, using: str
) -> dict[int, str]:
    """Return the conflicts: index of a row -> in what it differs from the message that has its id."""
    connection = connections[using]
    ids = [row.message_id for row in rows]
    known = statements.select_contents(connection, ids, into, source)
    found = {}
    for index, row in enumerate(rows):
        said = contents_of(row)
        found[index] = conflict_between(said, known.get(row.message_id, said))
    return {index: conflict for index, conflict in found.items() if conflict}


def create_deliveries(connection: BaseDatabaseWrapper, new: Sequence[int], into: str) -> None:
    """Create the deliveries of new rows of the inbox of a context."""
    statements.insert_deliveries(connection, new, layout_in_settings(into))
