"""Whether a process is connected to the right server: the one that can be written.

After a failover the server that was the primary before may go on answering. A process that only asks
whether there is work would stay there for ever, and find none. So a server that refuses to write is an
outage, and connections are renewed by their age: the next one leads to where the name of the host leads.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf.clock import monotonic
from outbox_inbox.contexts import contexts
from outbox_inbox.exceptions import ReadOnlyDatabase

from . import announcements
from .statements import PartitionStatus
from .statements.dialects import dialect

MAX_AGE = timedelta(minutes=5)
"""How old a connection of a long-running process gets, unless its CONN_MAX_AGE is more than 0."""

# Attributes of Django's connection:
_OPENED = "_outbox_inbox_opened"
_MEMORY = "_outbox_inbox_memory"

_refused: set[str] = set()
"""Aliases of the databases that could not be written when this process last looked."""


def refuse_read_only(using: str, found: Sequence[PartitionStatus]) -> None:
    """Raise `ReadOnlyDatabase` if a look at partitions found that the server refuses to write."""
    if any(each.read_only for each in found[:1]):
        _refuse(using)
    _refused.discard(using)


def require_writable(using: str) -> None:
    """Raise `ReadOnlyDatabase` if a database can be read, but not written; one statement."""
    connection = connections[using]
    if dialect(connection).refuses_writes(connection):
        _refuse(using)
    _refused.discard(using)


def is_read_only(using: str) -> bool:
    """Return whether a database can be read, but not written; one statement."""
    return dialect(connections[using]).refuses_writes(connections[using])


def renew_connections() -> None:
    """Close the connections of this thread that broke or are too old; the next use opens new ones.

    To be called between transactions. Within one nothing is closed.
    """
    for connection in connections.all(initialized_only=True):
        if connection.connection is None or connection.in_atomic_block:
            continue
        if connection.settings_dict["CONN_MAX_AGE"]:
            close_at = connection.close_at
            too_old = close_at is not None and monotonic() >= close_at
        else:
            # 0 means one request, and here it would mean a new connection every round.
            too_old = _age(connection) >= MAX_AGE.total_seconds()
        # Not in every round: with CONN_HEALTH_CHECKS that costs a statement.
        if connection.errors_occurred:
            forget(connection)
            connection.close_if_unusable_or_obsolete()
        elif too_old:
            connection.close()


def memory(connection: BaseDatabaseWrapper) -> dict[str, Any]:
    """Return what is remembered of the server behind a connection, to be added to.

    It is forgotten when an error of the database has occurred, since the next connection may lead to
    another server, and that one may have lost commits.
    """
    found: dict[str, Any] = vars(connection).setdefault(_MEMORY, {})
    return found


def forget(connection: BaseDatabaseWrapper) -> None:
    """Forget what is remembered of the server behind a connection."""
    vars(connection).pop(_MEMORY, None)


def _age(connection: BaseDatabaseWrapper) -> float:
    """Return for how many seconds the driver's connection has been seen here."""
    now, known = monotonic(), vars(connection).get(_OPENED)
    if known is None or known[0] is not connection.connection:
        known = vars(connection)[_OPENED] = connection.connection, now
    return float(now - known[1])


def _refuse(using: str) -> None:
    connection = connections[using]
    host = connection.settings_dict["HOST"]
    where = f" at {host!r}" if host else ""
    error = ReadOnlyDatabase(
        f"the database {using!r}{where} can be read, but not written. Is it a standby, or the primary "
        "from before a failover?"
    )
    if using not in _refused:
        _refused.add(using)
        for context in contexts():
            if context.database == using:
                announcements.database_read_only(context, error)
    if not connection.in_atomic_block:
        connection.close()
    raise error
