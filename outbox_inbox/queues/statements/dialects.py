"""What the databases say differently, for the raw statements of ``statements.py``."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from outbox_inbox.exceptions import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dialect:
    """The pieces of SQL in which one vendor differs from the others.

    Fields:
        now: the database's clock, in the form in which Django stores a time stamp.
        later: the same, ``%s`` seconds (a float) from now.
        among: what follows a column to look it up in one list parameter.
        skip_locked: ends a SELECT that takes rows nobody else has locked.
        wait_for_lock: ends a SELECT that waits for its rows.
        freeze_guard: an expression that has the server throw out a session which is idle for
            ``%s`` milliseconds within this transaction; a constant where there is none.
        utc: a time stamp (in place of ``{}``) as text that `as_datetime` reads: fetching a thousand as
            datetimes takes longer than all their other columns.
        arrays: many rows are best sent as one array for each column, by `run_apart`.
        native: UUIDs and lists are parameters as they are.
        key, partition: the columns of these names, which MySQL wants quoted.
        true: what follows a boolean column in a condition that an index is to serve.
        by_id: follows the table of an UPDATE that names its rows by id and state.
    """

    now: str
    later: str
    among: str
    skip_locked: str
    wait_for_lock: str
    freeze_guard: str
    native: bool
    utc: str = "{}"
    arrays: bool = False
    key: str = "key"
    partition: str = "partition"
    true: str = ""
    by_id: str = ""

    def members(self, values: Sequence[Any]) -> Any:
        """Return the parameter for ``among``."""
        return list(values) if self.native else json.dumps([self.uuid(value) for value in values])

    def uuid(self, value: Any) -> Any:
        """Return a parameter as the database stores it; only UUIDs change."""
        return value.hex if isinstance(value, UUID) and not self.native else value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MySQL(Dialect):
    """What MySQL and MariaDB say, who share a vendor in Django, and where the two differ.

    Fields:
        collation: compares every byte, trailing spaces included: two keys are one key only if
            they are the same.
        returning: INSERT tells what it has inserted.
        idle_limit: the variable of a session after whose seconds the server throws it out when it
            is idle: within a transaction on MariaDB, at all on MySQL, which knows no other limit.
        uuids: has a type for them.
    """

    collation: str
    returning: bool
    idle_limit: str
    uuids: bool

    def members(self, values: Sequence[Any]) -> Any:
        """Return the parameter for ``among``."""
        return tuple(map(self.uuid, values)) or (None,)

    def uuid(self, value: Any) -> Any:
        """Return a parameter as the database stores it; only UUIDs change."""
        if not isinstance(value, UUID):
            return value
        return str(value) if self.uuids else value.hex


_KEPT = "_outbox_inbox_cursor"  # an attribute of Django's connection

_POSTGRESQL = Dialect(
    now="clock_timestamp()",
    later="(clock_timestamp() + %s * interval '1 second')",
    among="= ANY(%s)",
    skip_locked="FOR UPDATE SKIP LOCKED",
    wait_for_lock="FOR UPDATE",
    freeze_guard="set_config('idle_in_transaction_session_timeout', %s, true)",
    native=True,
    arrays=True,
    utc="to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US+00:00')",
)


def _sqlite(zone: str) -> Dialect:
    return Dialect(
        now=f"strftime('%%Y-%%m-%%d %%H:%%M:%%f000', 'now'{zone})",
        later=f"strftime('%%Y-%%m-%%d %%H:%%M:%%f000', 'now', %s || ' seconds'{zone})",
        among="IN (SELECT value FROM json_each(%s))",
        skip_locked="",
        wait_for_lock="",
        freeze_guard="%s",
        native=False,
    )


_SQLITE = _sqlite("")
# Without USE_TZ Django stores local times; SQLite knows the same zone from the environment.
_SQLITE_LOCAL = _sqlite(", 'localtime'")


@functools.cache
def _mysql(*, mariadb: bool, uuids: bool, offset: int) -> MySQL:
    # The server's own zone is of no use: Django stores UTC, or what its settings say.
    now = f"(UTC_TIMESTAMP(6) + INTERVAL {offset} SECOND)" if offset else "UTC_TIMESTAMP(6)"
    return MySQL(
        now=now,
        later=f"({now} + INTERVAL %s SECOND)",
        among="IN %s",
        skip_locked="FOR UPDATE SKIP LOCKED",
        wait_for_lock="FOR UPDATE",
        freeze_guard="%s",
        native=False,
        key="`key`",
        partition="`partition`",
        true=" = TRUE",
        by_id=" FORCE INDEX (PRIMARY)",
        collation="utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin",
        returning=mariadb,
        idle_limit="idle_transaction_timeout" if mariadb else "wait_timeout",
        uuids=uuids,
    )


def dialect(connection: BaseDatabaseWrapper) -> Dialect:
    """Return the dialect of a connection.

    Raises:
        SettingsError: the vendor is none of those that the queues work on, or too old.
    """
    if connection.vendor == "postgresql":
        return _POSTGRESQL
    if connection.vendor == "sqlite":
        return _SQLITE if settings.USE_TZ else _SQLITE_LOCAL
    if connection.vendor == "mysql":
        return mysql_dialect(connection)
    raise SettingsError(
        f"the database {connection.alias!r} is {connection.vendor}; "
        "outbox_inbox works on postgresql, sqlite and mysql (MySQL and MariaDB)"
    )


def run_apart(connection: Any, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run a statement on PostgreSQL with the parameters apart from the SQL; return its rows.

    Django's cursors write all values into the text of the statement, quoted one by one. Here they
    are left as they are, and an array of any length can be one binary parameter (``%b``), ten
    times as fast. It is no prepared statement, so it works behind a transaction-pooling proxy.

    The cursor is kept for the next time: to make one takes psycopg as long as a short statement.
    Time stamps come as text, for `as_datetime`.
    """
    connection.ensure_connection()
    # Not there while it is in use: an execute wrapper may run a statement of ours within another.
    cursor = vars(connection).pop(_KEPT, None)
    if cursor is None or cursor.connection is not connection.connection:
        cursor = _cursor_apart(connection.connection)
    wrap = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    wrap(cursor).execute(sql, parameters)
    rows: list[tuple[Any, ...]] = cursor.fetchall()
    vars(connection)[_KEPT] = cursor
    return rows


def _cursor_apart(driver: Any) -> Any:
    from psycopg import Cursor
    from psycopg.types.string import TextLoader

    cursor = Cursor(driver)
    cursor.adapters.register_loader("timestamptz", TextLoader)
    return cursor


def mysql_dialect(connection: Any) -> MySQL:
    """Return the dialect of a connection to MySQL or MariaDB.

    Raises:
        SettingsError: it cannot skip locked rows, or has no collation that tells all keys apart.
    """
    mariadb = connection.mysql_is_mariadb
    if connection.mysql_version < ((10, 6) if mariadb else (8, 0, 17)):
        raise SettingsError(
            f"the database {connection.alias!r} is {connection.mysql_server_info}; "
            "outbox_inbox needs MariaDB 10.6 or MySQL 8.0.17"
        )
    offset = datetime.now(_zone(connection)).utcoffset()
    return _mysql(
        mariadb=mariadb,
        uuids=connection.features.has_native_uuid_field,
        offset=int(offset.total_seconds()) if offset else 0,
    )


_DEADLOCK = {1213, 1020}  # 1020: the row has changed since this transaction's snapshot
_WAITED_TOO_LONG = 1205


def gave_way(connection: BaseDatabaseWrapper, error: BaseException, *, waited: bool = True) -> bool:
    """Tell whether MySQL ended a statement so that another transaction can go on.

    It is the database's choice, and nothing is wrong with what the statement was about. After a
    deadlock the whole transaction is rolled back, savepoints included.

    Arguments:
        waited: also for a statement that waited too long for a lock, which undoes that only.
    """
    if connection.vendor != "mysql" or not isinstance(error, OperationalError):
        return False
    number = error.args[0] if error.args else None
    return number in _DEADLOCK or (waited and number == _WAITED_TOO_LONG)


def as_datetime(connection: BaseDatabaseWrapper, value: Any) -> datetime:
    """Return a time stamp of a raw row as an aware datetime in UTC."""
    stamp = datetime.fromisoformat(value) if isinstance(value, str) else value
    if stamp.tzinfo is UTC:
        return stamp
    if timezone.is_naive(stamp):
        stamp = timezone.make_aware(stamp, _zone(connection))
    return stamp.astimezone(UTC)


def _zone(connection: BaseDatabaseWrapper) -> tzinfo:
    """Return the zone of naive time stamps."""
    zone = connection.timezone if settings.USE_TZ else None
    return zone or timezone.get_default_timezone()


def time_parameter(connection: BaseDatabaseWrapper, value: datetime | None) -> Any:
    """Return an aware datetime as the parameter that the database stores."""
    if connection.vendor == "postgresql":
        return value
    if value is not None and not settings.USE_TZ:
        value = timezone.make_naive(value, timezone.get_default_timezone())
    return connection.ops.adapt_datetimefield_value(value)


def as_uuid(value: Any) -> UUID:
    """Return a column of a raw row as a UUID."""
    return value if isinstance(value, UUID) else UUID(value)


def as_uuid_or_none(value: Any) -> UUID | None:
    """Return a column of a raw row that may be null as a UUID."""
    return None if value is None else as_uuid(value)
