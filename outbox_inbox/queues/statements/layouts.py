"""What is in force for the queues of a context: the table of layouts, read by those who write to them.

Every statement that places a message reads it there, in the same statement. What a process has
read before, or has in its settings, may have been changed by ``repartition`` since: the later
messages of a key would be in another place than the earlier ones, and overtake them.
"""

from typing import Literal, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf import Source

from .common import CHECKPOINT, LAYOUT, fetch_rows
from .dialects import Dialect, dialect

RELAY = "(relay)"
"""The relay's subscription of the stream; no name that a user gives has parentheses."""


class Layout(NamedTuple):
    """A row of the table of layouts, or what the settings of a process say instead."""

    context: str
    source: Source
    outbox: int
    inbox: int


def in_force(column: Literal["source", "outbox", "inbox"], layout: Layout, lock: str = "") -> str:
    """Return the expression of what is in force in a context.

    ``layout``: what the settings say. It counts until one is stored.
    """
    label, otherwise = layout.context.replace("'", "''"), getattr(layout, column)
    found = f"SELECT f.{column} FROM {LAYOUT} f WHERE f.context = '{label}'{lock}"
    return f"COALESCE(({found}), {otherwise!r})"


def partition_of(
    sql: Dialect, hashed: str, queue: Literal["outbox", "inbox"], layout: Layout
) -> str:
    """Return the expression of the partition of a row that is inserted, by its hash.

    ``repartition`` waits for the transaction, which has a share of the lock of the layout where
    the table of the queue cannot be locked.
    """
    return f"{hashed} %% {in_force(queue, layout, sql.layout_share)}"


def fetch_layout(
    connection: BaseDatabaseWrapper, context: str, *, lock: bool = False
) -> Layout | None:
    """Return the layout that is stored for a context; None: none is.

    ``lock``: wait for the transactions that have a share of its lock, in the open transaction.
    """
    sql = dialect(connection)
    statement = f"SELECT context, source, outbox, inbox FROM {LAYOUT} WHERE context = %s"
    # Where no share of its lock is taken, the tables are locked instead.
    shared = lock and bool(sql.layout_share)
    rows = fetch_rows(connection, f"{statement} FOR UPDATE" if shared else statement, [context])
    return Layout(*rows[0]) if rows else None


def follows_stream(connection: BaseDatabaseWrapper, layout: Layout) -> bool:
    """Return whether the relay of a context reads the stream: it is the source, or was it."""
    sql = dialect(connection)
    if not sql.follows_streams:
        return False
    ((found,),) = fetch_rows(
        connection,
        f"SELECT {in_force('source', layout)} = 'stream' OR {_has_checkpoint('%s')}",
        [layout.context],
    )
    return bool(found)


def partition_columns(sql: Dialect) -> str:
    """Return two columns of a partition ``p``: the source in force, and whether its relay has read a stream.

    The first is null if no layout is stored. By the second, the stream may have something for the
    relay although it is not the source any more.
    """
    source = f"(SELECT f.source FROM {LAYOUT} f WHERE f.context = p.context)"
    left = f"p.queue = 'outbox' AND {_has_checkpoint('p.context')}"
    return f"{source}, {left if sql.follows_streams else 'FALSE'}"


def _has_checkpoint(context: str) -> str:
    return (
        f"EXISTS (SELECT 1 FROM {CHECKPOINT} c"
        f" WHERE c.context = {context} AND c.subscription = '{RELAY}')"
    )
