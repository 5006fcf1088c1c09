"""Connections for notifications, beside Django's: that is in transactions, and belongs to one thread."""

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from django.db import connections

from outbox_inbox.exceptions import ReadOnlyDatabase
from outbox_inbox.queues.statements.dialects.postgresql import PostgreSQL

if TYPE_CHECKING:
    from psycopg import Connection

_TIMEOUT = 5  # seconds until a server that does not answer counts as out of reach

_KEEPALIVES = {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3}
"""The loss of a server that sends nothing is noticed after half a minute, not after two hours."""

_OF_DJANGO = ("cursor_factory", "context", "prepare_threshold")


def can_notify(alias: str) -> bool:
    """Return whether a database can notify."""
    return connections[alias].vendor == "postgresql" and missing_driver() is None


@cache
def missing_driver() -> str | None:
    """Return what has to be installed; None: nothing."""
    return None if find_spec("psycopg") else "it needs psycopg 3, which is not installed"


def refuse_standby(connection: "Connection", alias: str) -> None:
    """Raise `ReadOnlyDatabase` if the server refuses to write: no new work is announced there."""
    found = connection.execute(f"SELECT {PostgreSQL.read_only}").fetchone()
    if found is not None and found[0]:
        raise ReadOnlyDatabase(f"the database {alias!r} can be read, but not written")


def connect(alias: str) -> "Connection":
    """Open a connection in autocommit, with the settings of an alias."""
    import psycopg

    parameters: dict[str, Any] = connections[alias].get_connection_params()
    for name in _OF_DJANGO:
        parameters.pop(name, None)
    return psycopg.connect(
        **{"connect_timeout": _TIMEOUT, **_KEEPALIVES, **parameters}, autocommit=True
    )
