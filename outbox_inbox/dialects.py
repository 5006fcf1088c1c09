"""What the databases say differently, for the raw statements of ``statements.py``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from .exceptions import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
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
        utc: a time stamp (in place of ``{}``) as text that `aware` reads: fetching a thousand as
            datetimes takes longer than all their other columns.
        arrays: many rows are best sent as one array for each column, with `array_cursor`.
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

    def members(self, values: Sequence[Any]) -> Any:
        """Return the parameter for ``among``."""
        return list(values) if self.native else json.dumps([self.uuid(value) for value in values])

    def uuid(self, value: Any) -> Any:
        """Return a parameter as the database stores it; only UUIDs change."""
        return value.hex if isinstance(value, UUID) and not self.native else value


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


def dialect(connection: BaseDatabaseWrapper) -> Dialect:
    """Return the dialect of a connection.

    Raises:
        SettingsError: the vendor is neither PostgreSQL nor SQLite.
    """
    if connection.vendor == "postgresql":
        return _POSTGRESQL
    if connection.vendor == "sqlite":
        return _SQLITE if settings.USE_TZ else _SQLITE_LOCAL
    raise SettingsError(
        f"the database {connection.alias!r} is {connection.vendor}; "
        "outbox_inbox works on postgresql and sqlite"
    )


def array_cursor(connection: Any) -> Any:
    """Return a cursor of the open PostgreSQL connection that sends parameters apart from the SQL.

    Django's cursors write all values into the text of the statement, quoted one by one. This one
    can send an array of any length as one binary parameter (``%b``), ten times as fast. It is no
    prepared statement, so it works behind a transaction-pooling proxy.
    """
    from psycopg import Cursor

    made = Cursor(connection.connection)
    if connection.queries_logged:
        return connection.make_debug_cursor(made)
    return connection.make_cursor(made)


def aware(connection: BaseDatabaseWrapper, value: Any) -> datetime:
    """Return a time stamp of a raw row as an aware datetime in UTC."""
    stamp = datetime.fromisoformat(value) if isinstance(value, str) else value
    if stamp.tzinfo is UTC:
        return stamp
    if timezone.is_naive(stamp):
        zone = connection.timezone if settings.USE_TZ else timezone.get_default_timezone()
        stamp = timezone.make_aware(stamp, zone)
    return stamp.astimezone(UTC)


def stamp(connection: BaseDatabaseWrapper, value: datetime | None) -> Any:
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
