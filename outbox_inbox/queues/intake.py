"""How messages get into an inbox: one row a message, one delivery for each consumer of its type.

The unique constraint of the inbox drops duplicates, within the statement that inserts: two processes
that looked before both would find nothing, and the message be handled twice (rule O7).
"""

from collections.abc import Iterable, Sequence

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf import settings
from outbox_inbox.contexts import Context

from . import statements
from .contents import conflict_between, contents_of


def move_messages(
    connection: BaseDatabaseWrapper,
    rows: Sequence[int],
    into: Context,
    source: str,
    types: Iterable[str],
    *,
    stored: bool = False,
) -> dict[int, str]:
    """Copy outbox rows into an inbox of the same database, in the caller's transaction.

    Arguments:
        rows: ids of the outbox rows, or (``stored``) positions in the stream, in order.
        source: label of the context that recorded them.
        types: the stored type names among them.

    Returns:
        The conflicts: row -> in what it differs from the inbox message that has its id. A row that
        says the same is a repetition, and is dropped (rule O7).
    """
    new = statements.move_to_inbox(connection, rows, into.label, source, stored=stored)
    create_deliveries(connection, new, into, types)
    if len(new) == len(rows):
        return {}
    twins = statements.select_twins(connection, rows, into.label, source, stored=stored)
    found = {row: conflict_between(*each) for row, each in twins.items()}
    return {row: conflict for row, conflict in found.items() if conflict}


def insert_messages(rows: Sequence[statements.ReceivedRow], into: Context, source: str) -> int:
    """Insert messages from a transport in the open transaction; return how many were new.

    One whose id is there already is dropped; `conflicting_rows` says which of them must not be.
    """
    connection = connections[into.database]
    new = statements.insert_inbox(connection, rows, into.label, source)
    create_deliveries(connection, new, into, {row.type for row in rows})
    return len(new)


def conflicting_rows(
    rows: Sequence[statements.ReceivedRow], into: Context, source: str
) -> dict[int, str]:
    """Return the conflicts: index of a row -> in what it differs from the message that has its id."""
    connection = connections[into.database]
    ids = [row.message_id for row in rows]
    known = statements.select_contents(connection, ids, into.label, source)
    found = {}
    for index, row in enumerate(rows):
        said = contents_of(row)
        found[index] = conflict_between(said, known.get(row.message_id, said))
    return {index: conflict for index, conflict in found.items() if conflict}


def create_deliveries(
    connection: BaseDatabaseWrapper, new: Sequence[int], into: Context, types: Iterable[str]
) -> None:
    """Create the deliveries of new inbox rows."""
    interests = [
        statements.InterestRow(type_name, consumer.name, consumer.hash)
        for type_name in sorted(types)
        for consumer in into.consumers_of(type_name)
    ]
    statements.insert_deliveries(connection, new, interests, settings().partitions.inbox)
