"""PostgreSQL: parameters apart from the SQL, arrays, snapshots.

Parameters apart from the SQL are psycopg 3's. With psycopg2, and where a tool has its own cursors in
between, every statement goes through Django's cursor.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import django
from django.db.backends.base.base import BaseDatabaseWrapper

from ..common import PARTITION, fetch_rows
from .base import Dialect, Insert, Row, Rows, constant_expressions, insert_text

FEW = 8  # rows that are sent faster one by one than as arrays
_CURSOR = "_outbox_inbox_cursor"  # an attribute of Django's connection
_GAVE_WAY = {"40P01", "40001"}  # deadlock detected, serialization failure
_WAITED_TOO_LONG = "55P03"
_DJANGO = str(Path(django.__file__).parent)
_IDLE = 0  # libpq's PQTRANS_IDLE
_IN_ERROR = 3  # libpq's PQTRANS_INERROR


class PostgreSQL(Dialect):
    """UUIDs, lists and time stamps are parameters as they are."""

    has_snapshots = True

    now = "clock_timestamp()"
    later = "(clock_timestamp() + %s * interval '1 second')"
    among = "= ANY(%s)"
    skip_locked = "FOR UPDATE SKIP LOCKED"
    read_only = "(pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on')"
    freeze_guard = "set_config('idle_in_transaction_session_timeout', %s, true)"

    @classmethod
    def gave_way(cls, error: BaseException, *, waited: bool) -> bool:
        # psycopg 3 and 2 name it differently; Django's error is raised from theirs.
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        return state in _GAVE_WAY or (waited and state == _WAITED_TOO_LONG)

    @classmethod
    def of(cls, connection: Any) -> Dialect:
        level = connection.settings_dict["OPTIONS"].get("isolation_level")
        return _REPEATABLE_READ if level in _levels_with_a_snapshot() else _POSTGRESQL

    def seconds_until(self, column: str) -> str:
        return f"extract(epoch FROM {column} - {self.now})"

    def row_values(self, row: Sequence[Any]) -> Iterable[Any]:
        return row

    def time_column(self, column: str) -> str:
        # As text: a thousand datetimes take longer than all their other columns.
        return f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US+00:00')"

    @classmethod
    def time_parameter(cls, connection: BaseDatabaseWrapper, value: datetime | None) -> Any:
        return value

    def in_partition(self, alias: str, context: str = "%s", number: str = "%s") -> str:
        """Return it as a range: with two equations the order would be that of the id alone."""
        # Not as a range of pairs: a scan does not end by the second of them. For an empty partition
        # it would go on through the backlog of another one, a million rows at each look.
        share = f"{alias}.partition"
        return f"{alias}.context = {context} AND {share} >= {number} AND {share} <= {number}"

    def partition_values(self, context: str, number: int) -> list[Any]:
        return [context, number, number]

    def partition_order(self, alias: str, column: str = "id") -> str:
        return f"{alias}.context, {alias}.partition, {alias}.{column}"

    def fetch_fast(self, connection: Any, statement: str, parameters: Sequence[Any]) -> list[Row]:
        """Run a statement with the parameters apart from the SQL; return its rows.

        Django's cursors write all values into the text of the statement, quoted one by one. Here
        they stay as they are, and an array of any length can be one binary parameter (``%b``), ten
        times as fast. It is not a prepared statement, so it works behind a transaction-pooling
        proxy.

        The cursor is kept for the next time: psycopg takes as long to make one as for a short
        statement. Time stamps come as text, for `as_datetime`.
        """
        connection.ensure_connection()
        if not _is_direct(connection):
            return _fetch_through_django(connection, statement, parameters)
        # Not there while it is in use: an execute wrapper of the project may run a statement of
        # ours within another, and would overwrite the rows that have not been fetched yet.
        cursor = vars(connection).pop(_CURSOR, None)
        if cursor is None or cursor.connection is not connection.connection:
            cursor = _new_cursor(connection.connection)
        wrap = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
        wrap(cursor).execute(statement, parameters)
        rows: list[Row] = cursor.fetchall()
        vars(connection)[_CURSOR] = cursor
        return rows

    def insert_new(
        self, connection: BaseDatabaseWrapper, insert: Insert, rows: Rows, shared: Row = ()
    ) -> list[Row]:
        connection.ensure_connection()
        if len(rows) <= FEW or not _is_direct(connection):
            return super().insert_new(connection, insert, rows, shared)
        # Many rows go as one array a column: a third of the work.
        statement = _array_insert(self, insert)
        returned: list[Row] = []
        for start in range(0, len(rows), insert.batch):
            columns = zip(*rows[start : start + insert.batch], strict=True)
            returned += self.fetch_fast(connection, statement, [*shared, *map(list, columns)])
        return returned

    def begin_run(
        self, connection: BaseDatabaseWrapper, partition: int, run: Any, freeze_ms: int
    ) -> list[Row]:
        return fetch_rows(  # one trip to the server instead of four
            connection,
            f"WITH held AS (SELECT id, run, positions, {self.was_put_back()} AS put_back, {self.run_time()} AS at"
            f" FROM {PARTITION} WHERE id = %s AND {self.free_condition()} {self.skip_locked})"
            f" UPDATE {PARTITION} p SET run = %s, last_run_at = held.at FROM held"
            " WHERE p.id = held.id RETURNING held.run, held.positions, held.put_back",
            [partition, run],
        )

    @classmethod
    def is_ended(cls, driver: Any) -> bool:
        return bool(driver.info.transaction_status == _IDLE)

    @classmethod
    def is_aborted(cls, driver: Any) -> bool:
        return bool(driver.info.transaction_status == _IN_ERROR)

    def lock_tables(self, connection: BaseDatabaseWrapper, names: Sequence[str]) -> None:
        quoted = ", ".join(map(connection.ops.quote_name, names))
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {quoted} IN SHARE ROW EXCLUSIVE MODE")


class RepeatableRead(PostgreSQL):
    """PostgreSQL where a transaction goes on with the snapshot of its first statement.

    It may have begun before a ``repartition``, of which it would see nothing. With the share of the
    lock the server refuses it then (40001), as it does whatever else such a transaction missed.
    """

    layout_share = " FOR SHARE"


@cache
def _levels_with_a_snapshot() -> Collection[int]:
    # The numbers are not the same in psycopg 3 and in psycopg2.
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    return IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE


_POSTGRESQL = PostgreSQL()
_REPEATABLE_READ = RepeatableRead()


def _is_direct(connection: Any) -> bool:
    """Return whether nothing is between the connection and psycopg 3 that would miss a statement.

    Debuggers, tracers and engines with metrics replace a method that makes cursors, on the
    connection or on its class, or give the driver a class of cursors or of connections.
    """
    driver, own = connection.connection, vars(connection)
    return (
        # By the names of their modules: that of a wrapper is its own, and nothing is imported.
        type(driver).__module__ == "psycopg"
        and getattr(driver.cursor_factory, "__module__", "").startswith("django.")
        and not ("cursor" in own or "_cursor" in own or "create_cursor" in own)
        and _makes_cursors_of_django(type(connection))
    )


_proven: dict[type, tuple[Any, Any, Any]] = {}
"""Class of connections -> its methods when they were last found to be Django's."""


def _makes_cursors_of_django(kind: Any) -> bool:
    found = kind.cursor, kind._cursor, kind.create_cursor  # noqa: SLF001  tools replace it, too
    known = _proven.get(kind)
    # By identity: the wrapper of a function may say that it is equal to it.
    if known and known[0] is found[0] and known[1] is found[1] and known[2] is found[2]:
        return True
    if all(map(_is_of_django, found)):
        _proven[kind] = found
        return True
    return False


def _is_of_django(method: Any) -> bool:
    # Not by its module or name: a wrapper has those of what it wraps.
    return type(method) is FunctionType and method.__code__.co_filename.startswith(_DJANGO)


def _fetch_through_django(
    connection: BaseDatabaseWrapper, statement: str, parameters: Sequence[Any]
) -> list[Row]:
    with connection.cursor() as cursor:
        # Django would take a time stamp in the zone of the session for one in its own.
        if hasattr(cursor, "adapters"):
            _read_times_as_text(cursor)
        else:  # psycopg2
            cursor.cursor.tzinfo_factory = timezone
        cursor.execute(statement, parameters)
        rows: list[Row] = cursor.fetchall()
        return rows


def _read_times_as_text(cursor: Any) -> None:
    from psycopg.types.string import TextLoader

    cursor.adapters.register_loader("timestamptz", TextLoader)


def _new_cursor(driver: Any) -> Any:
    from psycopg import Cursor

    cursor = Cursor(driver)
    _read_times_as_text(cursor)
    return cursor


@cache
def _array_insert(sql: PostgreSQL, insert: Insert) -> str:
    head, _, tail = insert_text(sql, insert)
    columns = ", ".join(insert.columns)
    arrays = ", ".join(f"%b::{kind}[]" for kind in insert.types.split())
    given = [insert.computed.get(each, "{}").format(each) for each in insert.columns]
    selected = [*["%s"] * len(insert.shared), *given, *constant_expressions(sql, insert)]
    # Ids are given out in the order of the SELECT: without ORDER BY that is the planner's choice,
    # and the messages of one key could be sent in another order than they were recorded in.
    return (
        f"{head} SELECT {', '.join(selected)}"
        f" FROM unnest({arrays}) WITH ORDINALITY AS r ({columns}, n) ORDER BY n {tail}"
    )
