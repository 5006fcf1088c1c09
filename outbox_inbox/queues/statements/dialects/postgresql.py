"""PostgreSQL: parameters apart from the SQL, arrays, snapshots."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from ..common import PARTITION, fetch_rows
from .base import Dialect, Insert, Row, Rows, constant_expressions, insert_text

FEW = 8  # rows that are sent faster one by one than as arrays
_CURSOR = "_outbox_inbox_cursor"  # an attribute of Django's connection
_GAVE_WAY = {"40P01", "40001"}  # deadlock detected, serialization failure
_WAITED_TOO_LONG = "55P03"
_READ_COMMITTED = 2  # psycopg's IsolationLevel
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
        level = connection.settings_dict["OPTIONS"].get("isolation_level") or _READ_COMMITTED
        return _POSTGRESQL if level <= _READ_COMMITTED else _REPEATABLE_READ

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
        """Return it as a range: with equations the order would be that of the id alone."""
        row, value = f"({alias}.context, {alias}.partition)", f"({context}, {number})"
        return f"{row} >= {value} AND {row} <= {value}"

    def partition_values(self, context: str, number: int) -> list[Any]:
        return [context, number] * 2

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
        if len(rows) <= FEW:
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
        return bool(driver.pgconn.transaction_status == _IDLE)

    @classmethod
    def is_aborted(cls, driver: Any) -> bool:
        return bool(driver.pgconn.transaction_status == _IN_ERROR)

    def lock_tables(self, connection: BaseDatabaseWrapper, names: Sequence[str]) -> None:
        quoted = ", ".join(map(connection.ops.quote_name, names))
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {quoted} IN SHARE ROW EXCLUSIVE MODE")

    def limit_lock_wait(self, connection: BaseDatabaseWrapper, seconds: float) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{seconds}s'")


class RepeatableRead(PostgreSQL):
    """PostgreSQL where a transaction goes on with the snapshot of its first statement.

    It may have begun before a ``repartition``, of which it would see nothing. With the share of the
    lock the server refuses it then (40001), as it does whatever else such a transaction missed.
    """

    layout_share = " FOR SHARE"


_POSTGRESQL = PostgreSQL()
_REPEATABLE_READ = RepeatableRead()


def _new_cursor(driver: Any) -> Any:
    from psycopg import Cursor
    from psycopg.types.string import TextLoader

    cursor = Cursor(driver)
    cursor.adapters.register_loader("timestamptz", TextLoader)
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
