"""What differs between the databases, behind one object for each vendor: see `Dialect`.

A statement that was written for one vendor fails on the next, or is slow there without an error.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.exceptions import SettingsError

from .base import Dialect, Insert, Rows
from .mysql import MySQL
from .postgresql import PostgreSQL
from .sqlite import SQLite
from .values import as_datetime, as_uuid, as_uuid_or_none, stored_time

CLASSES: dict[str, type[Dialect]] = {"postgresql": PostgreSQL, "sqlite": SQLite, "mysql": MySQL}
"""Vendor of a Django connection -> its dialect."""

_LONGEST_CHAIN = 10  # of errors that were raised from each other


def dialect(connection: BaseDatabaseWrapper) -> Dialect:
    """Return the dialect of a connection; raises `SettingsError` on a vendor or version without one."""
    return dialect_class(connection).of(connection)


def dialect_class(connection: BaseDatabaseWrapper) -> type[Dialect]:
    """Return the class of a dialect, for what is known without a connection to the server."""
    try:
        return CLASSES[connection.vendor]
    except KeyError:
        raise SettingsError(
            f"the database {connection.alias!r} is {connection.vendor}; "
            "outbox_inbox works on postgresql, sqlite and mysql (MySQL and MariaDB)"
        ) from None


def gave_way(connection: BaseDatabaseWrapper, error: BaseException, *, waited: bool = True) -> bool:
    """Return whether the database ended a statement so that another transaction could go on.

    That is a deadlock, or a serialization failure. Code in between may have raised an error of its
    own from it. ``waited``: count a statement that waited too long for a lock, too; on MySQL only
    that one is undone.
    """
    vendor = CLASSES.get(connection.vendor)  # other vendors may be connected, too
    return vendor is not None and any(
        vendor.gave_way(each, waited=waited) for each in error_chain(error)
    )


def error_chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and those that it was raised from."""
    left: BaseException | None = error
    for _ in range(_LONGEST_CHAIN):
        if left is None:
            return
        yield left
        left = left.__cause__ or (None if left.__suppress_context__ else left.__context__)


def time_parameter(connection: BaseDatabaseWrapper, value: datetime | None) -> Any:
    """Return an aware datetime as the parameter that the database stores."""
    return dialect_class(connection).time_parameter(connection, value)


def database_time(connection: BaseDatabaseWrapper) -> datetime:
    """Return the time of a database: ages of rows must not depend on the clock of one machine."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {dialect(connection).now}", [])
        return as_datetime(connection, cursor.fetchone()[0])
