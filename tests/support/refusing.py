"""A database that refuses statements: without a table, or as if it were read-only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from django.db import InternalError, OperationalError, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.models import table


@contextmanager
def without(model: type[models.Model], using: str = "default") -> Iterator[None]:
    """Take the table of a model away within the block."""
    name = table(model)
    _rename(using, name, f"{name}_away")
    try:
        yield
    finally:
        _rename(using, f"{name}_away", name)


def _rename(using: str, old: str, new: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")


def read_only_error(connection: BaseDatabaseWrapper) -> Exception:
    """Return what Django raises when the server of a connection is read-only."""
    if connection.vendor == "postgresql":
        from psycopg.errors import ReadOnlySqlTransaction

        error: Exception = InternalError("cannot execute INSERT in a read-only transaction")
        error.__cause__ = ReadOnlySqlTransaction()
        return error
    if connection.vendor == "mysql":
        return OperationalError(1290, "The MariaDB server is running with the --read-only option")
    return OperationalError("attempt to write a readonly database")


def writing_in_vain(using: str = "default") -> Callable[..., None]:
    """Return a part for a handler: write to a database that is read-only by now."""

    def write(*_: Any) -> None:
        connection = connections[using]

        def refuse(*_: Any) -> NoReturn:
            raise read_only_error(connection)

        with connection.execute_wrapper(refuse), connection.cursor() as cursor:
            cursor.execute("UPDATE shop_entry SET number = number")

    return write


def misspelling(*_: Any) -> None:
    """Ask for a table that was never there: a part for a handler."""
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT 1 FROM shop_entrie")
