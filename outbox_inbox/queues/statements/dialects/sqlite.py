"""SQLite: one write lock for the whole database, and neither UUIDs nor arrays."""

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from ..common import PARTITION, change_rows, fetch_rows
from .base import Dialect, Row


class SQLite(Dialect):
    """UUIDs are stored as 32 hex digits, time stamps as text."""

    among = "IN (SELECT value FROM json_each(%s))"
    octets = "length(CAST({} AS BLOB))"  # octet_length() is newer than what Django supports

    def __init__(self, zone: str = "") -> None:
        """Make a dialect for times in a zone: a modifier of SQLite's date functions; default UTC."""
        self.now = f"strftime('%%Y-%%m-%%d %%H:%%M:%%f000', 'now'{zone})"
        self.later = f"strftime('%%Y-%%m-%%d %%H:%%M:%%f000', 'now', %s || ' seconds'{zone})"

    @classmethod
    def of(cls, connection: Any) -> Dialect:
        if not settings.USE_TZ:
            return _LOCAL
        # As in `DATABASES` under TIME_ZONE; SQLite itself has no time zones.
        offset = connection.timezone.utcoffset(datetime.now(connection.timezone))
        return _shifted(int(offset.total_seconds())) if offset else _UTC

    def members(self, values: Sequence[Any]) -> Any:
        return json.dumps([self.uuid(value) for value in values])

    def seconds_until(self, column: str) -> str:
        return f"(julianday({column}) - julianday({self.now})) * 86400"

    def uuid(self, value: Any) -> Any:
        return value.hex if isinstance(value, UUID) else value

    def time_column(self, column: str) -> str:
        # As text: Django's converter of times would fail while rows are fetched, and with one that was
        # spoilt by hand all others could not be read.
        return f"CAST({column} AS TEXT)"

    def refuses_writes(self, connection: BaseDatabaseWrapper) -> bool:
        # No expression says it: a file may be opened for reading, or lie where nothing can be written.
        if connection.in_atomic_block:
            return False
        try:  # it changes no row, and so writes nothing
            change_rows(connection, f"UPDATE {PARTITION} SET paused = paused WHERE id < 0", [])
        except OperationalError as error:
            return "readonly" in str(error)  # otherwise another process is writing
        return False

    def lock_row(
        self,
        connection: BaseDatabaseWrapper,
        columns: str,
        table: str,
        where: str,
        parameters: Sequence[Any],
        freeze_ms: int,
    ) -> list[Row]:
        # To write to the row takes the only write lock of the database. A transaction that reads
        # first and writes later is refused with "database is locked" as soon as another has written
        # in between, without waiting; so the lock comes first, also where transactions do not begin
        # with IMMEDIATE.
        statement = f"UPDATE {table} SET paused = paused {where} RETURNING {columns}"
        return fetch_rows(connection, statement, parameters)


_UTC = SQLite()
# Without USE_TZ Django stores local times; SQLite knows the same zone from the environment.
_LOCAL = SQLite(", 'localtime'")


@cache
def _shifted(seconds: int) -> SQLite:
    return SQLite(f", '{seconds:+d} seconds'")
