"""Everything in which the databases differ, with what PostgreSQL and SQLite have in common.

Both have ``ON CONFLICT DO NOTHING``, ``RETURNING`` and ``WITH`` before an UPDATE, unlike MySQL.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, ClassVar

from django.conf import settings
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from ..common import DELIVERY, INBOX, PARTITION, change_rows, fetch_rows, positions_change

Row = tuple[Any, ...]
Rows = Sequence[Sequence[Any]]

ROWS = 500
"""Rows in one INSERT: below SQLite's limit of 32,766 parameters."""

SILENCE = 2.0
"""Seconds without a sign of life after which a run that was not ended counts as crashed.

The row lock alone decides which worker owns a partition. This only says how soon other workers
assume a crash while the partition is not locked, so that they leave it to a worker that is between
two transactions.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Insert:
    """An INSERT of any number of rows. One object for each, by which its texts are cached.

    Fields:
        table: the name of the table.
        columns: those that come as parameters, in the order of a row.
        types: the types of these on PostgreSQL.
        constants: other columns, with the expression that each row has; ``{now}`` is the clock.
        computed: column -> the expression that is stored in it, of the parameter ``{}``.
        shared: columns before all others whose values are the same for all rows of a call.
        unique: the columns, in parentheses, of the constraint by which rows are left out that are
            there already; empty: any constraint. None: none can be there.
        returning: the column that is returned of each row that was stored.
        order: the primary key.
        batch: rows that go in one statement, where they go as arrays.
    """

    table: str
    columns: Sequence[str]
    types: str
    constants: dict[str, str]
    computed: Mapping[str, str] = field(default_factory=dict)
    shared: Sequence[str] = ()
    unique: str | None
    returning: str
    order: str = "id"
    batch: int = ROWS


class Dialect(ABC):
    """How one vendor says what the statements need; texts of statements are cached by its objects.

    Attributes:
        follows_streams: a transaction can find out which events it has not seen yet.
        has_snapshots: it does so by snapshots; otherwise by positions.
        waits_for_inserts: an UPDATE waits for rows that another transaction has inserted and not
            committed, whether they fit its condition or not.
        deadlocks_roll_back: an error that the application swallows may have undone all that the
            transaction has done, and the next statement begins another.
        now: the database's clock, in the form in which Django stores a time stamp.
        later: the same, ``%s`` seconds (a float) from now; see also `shifted`.
        among: what follows a column to look it up in one list parameter, made by `members`.
        skip_locked: ends a SELECT that locks the rows that no other transaction has locked.
        freeze_guard: an expression that has the server end this session when it is idle for ``%s``
            milliseconds within this transaction; a constant where the server has no such limit.
        event_columns: those that every table of messages has, in the order of `EventRow`.
        key, partition: the columns of these names, which MySQL wants quoted.
        octets: the number of bytes of the text ``{}``, without reading all of it where possible.
        layout_share: what follows a SELECT of the layout within an INSERT that places messages, so that
            ``repartition`` waits for the transaction, and the newest layout counts.
        true: what follows a boolean column in a condition that an index is to serve.
        read_only: the condition that the server refuses to write; see also `refuses_writes`.
        by_id: follows the table of an UPDATE that names its rows by id and state.
    """

    follows_streams: ClassVar[bool] = True
    has_snapshots: ClassVar[bool] = False
    waits_for_inserts: ClassVar[bool] = False
    deadlocks_roll_back: ClassVar[bool] = False

    now: str
    later: str
    among: str
    skip_locked = ""
    freeze_guard = "%s"
    event_columns = (
        "message_id, type, schema_version, key, payload, headers, correlation_id, causation_id,"
        " hops"
    )
    key = "key"
    partition = "partition"
    octets = "octet_length({})"
    layout_share = ""
    true = ""
    read_only = "FALSE"
    by_id = ""

    @classmethod
    @abstractmethod
    def of(cls, connection: Any) -> "Dialect":
        """Return the dialect of a connection."""

    # Values

    def members(self, values: Sequence[Any]) -> Any:
        """Return the parameter for ``among``."""
        return list(values)

    def uuid(self, value: Any) -> Any:
        """Return a parameter as the database stores it; only UUIDs change."""
        return value

    def time_column(self, column: str) -> str:
        """Return a time stamp in the form in which many of them are fetched fastest."""
        return column

    @classmethod
    def time_parameter(cls, connection: BaseDatabaseWrapper, value: datetime | None) -> Any:
        """Return a datetime as the parameter that the database stores; a naive one is in its zone."""
        if value is not None and not settings.USE_TZ and timezone.is_aware(value):
            value = timezone.make_naive(value, timezone.get_default_timezone())
        return connection.ops.adapt_datetimefield_value(value)

    def row_values(self, row: Sequence[Any]) -> Iterable[Any]:
        """Return the values of a row as parameters."""
        return map(self.uuid, row)

    # Times

    def shifted(self, seconds: float) -> str:
        """Return the database's clock, so many seconds from now."""
        return self.later.replace("%s", repr(float(seconds)))

    @abstractmethod
    def seconds_until(self, column: str) -> str:
        """Return the seconds from now until a time stamp; null where that is null."""

    def shows_life(self, column: str) -> str:
        """Return the condition that a run whose last sign of life is in a column may go on.

        One from the future says nothing: the clock was put back since, or another server with a clock
        of its own has taken over. Without the upper bound a crashed run would keep its partition until
        the clock has come up to it. The bound leaves room for servers whose clocks differ a little.
        """
        since, until = self.shifted(-SILENCE), self.shifted(SILENCE)
        return f"({column} > {since} AND {column} <= {until})"

    def was_put_back(self, column: str = "last_run_at") -> str:
        """Return the condition that the clock was put back since it was written into a column."""
        return f"({column} IS NOT NULL AND {column} > {self.shifted(SILENCE)})"

    def run_time(self, seconds: float = 0.0) -> str:
        """Return what is written to ``last_run_at``: so many seconds from now.

        One from the future stays, until `times.restart` has looked at the other times of the partition:
        by it a run knows that they may be wrong as well.
        """
        at = self.shifted(seconds) if seconds else self.now
        return f"CASE WHEN {self.was_put_back()} THEN last_run_at ELSE {at} END"

    # Statements

    def fetch_fast(
        self, connection: BaseDatabaseWrapper, statement: str, parameters: Sequence[Any]
    ) -> list[Row]:
        """Run a statement with as little work around it as the driver allows; return its rows."""
        return fetch_rows(connection, statement, parameters)

    def update_rows(
        self,
        connection: BaseDatabaseWrapper,
        table: str,
        new: str,
        where: str,
        parameters: Sequence[Any],
    ) -> int:
        """Change the rows of a queue that fit a condition; the caller has the partition's lock."""
        return change_rows(connection, f"UPDATE {table} SET {new} WHERE {where}", parameters)

    def in_partition(self, alias: str, context: str = "%s", number: str = "%s") -> str:
        """Return the condition that a row is in a partition, for rows in `partition_order`.

        The two together make the partial index the only one that yields the rows in order. With
        an order by id alone, a planner that read its statistics in a backlog prefers the primary
        key, and walks over everything that was finished since.
        """
        return f"{alias}.context = {context} AND {alias}.partition = {number}"

    def partition_values(self, context: str, number: int) -> list[Any]:
        """Return the parameters of `in_partition`."""
        return [context, number]

    def partition_order(self, alias: str, column: str = "id") -> str:
        """Return the order of the rows of a partition."""
        return f"{alias}.{column}"

    def forced_index(self, table: str) -> str:
        """Return what follows the table of a queue, or of the quarantine, to find rows by state."""
        return ""

    def first_row(
        self, table: str, column: str, condition: str, context: str = "%s", number: str = "%s"
    ) -> str:
        """Return a column of the first such row of a partition, by one probe of an index.

        The column is the one by which that index has the rows in order. EXISTS would leave the way to
        the planner: in a backlog it reads the table until it meets a row of the partition, which takes
        seconds where there is none.
        """
        return (
            f"(SELECT m.{column} FROM {table} m{self.forced_index(table)}"
            f" WHERE {self.in_partition('m', context, number)} AND {condition}"
            f" ORDER BY {self.partition_order('m', column)} LIMIT 1)"
        )

    def outermost_due(self, which: str, table: str, state: str, context: str, number: str) -> str:
        """Return when the first (MIN) or last (MAX) row of a partition comes due that waits for its time.

        It is found by one probe of an index.
        """
        condition = f"m.state = '{state}' AND m.due_at IS NOT NULL"
        first = self.first_row(table, "due_at", condition, context, number)
        if which == "MIN":
            return first
        order = f"ORDER BY {self.partition_order('m', 'due_at')}"
        return first.replace(order, f"{order.replace(',', ' DESC,')} DESC")

    def pair_condition(self, names: tuple[str, str], count: int) -> str:
        """Return the condition that two columns have one of so many pairs of values."""
        return f"({', '.join(names)}) IN (VALUES {', '.join(['(%s, %s)'] * count)})"

    # Inserting, and who was first

    def insert_new(
        self, connection: BaseDatabaseWrapper, insert: Insert, rows: Rows, shared: Row = ()
    ) -> list[Row]:
        """Insert those rows that are new; return one column of them, in order.

        The unique constraint decides, not a look before the insertion: of two transactions that
        insert the same id at once both would have found nothing (rule O7). The second waits for
        the end of the first, and learns from the rows that come back which of its own were new.
        """
        head, one, tail = insert_text(self, insert)
        returned: list[Row] = []
        for start in range(0, len(rows), ROWS):
            chunk = rows[start : start + ROWS]
            returned += self.fetch_fast(
                connection,
                f"{head} VALUES {', '.join([one] * len(chunk))} {tail}",
                [value for row in chunk for value in (*shared, *self.row_values(row))],
            )
        return returned

    def insert_in_order(
        self, connection: BaseDatabaseWrapper, insert: Insert, rows: Rows
    ) -> list[Row]:
        """Insert rows; return one column of those stored, not all when a constraint refused some."""
        return self.insert_new(connection, insert, rows)

    def move_to_inbox(
        self,
        connection: BaseDatabaseWrapper,
        table: str,
        id_: str,
        ids: Sequence[int],
        context: str,
        source: str,
    ) -> list[int]:
        """Copy messages of a table into an inbox; return the ids of the new rows (rule O7)."""
        event = f"{self.event_columns}, key_hash, recorded_at"
        rows = fetch_rows(
            connection,
            f"INSERT INTO {INBOX} (context, source, {event}, received_at)"
            f" SELECT %s, %s, {event}, {self.now} FROM {table}"
            f" WHERE {id_} {self.among} ORDER BY {id_}"
            " ON CONFLICT (context, source, message_id) DO NOTHING RETURNING id",
            [context, source, self.members(ids)],
        )
        return [row[0] for row in rows]

    def lock_version(
        self, connection: BaseDatabaseWrapper, context: str, stream: str, version: int
    ) -> bool:
        """Wait for others that append behind this event; false: the insertion itself waits."""
        return False

    # The lock of a partition

    def lock_row(
        self,
        connection: BaseDatabaseWrapper,
        columns: str,
        table: str,
        where: str,
        parameters: Sequence[Any],
        freeze_ms: int,
    ) -> list[Row]:
        """Lock a row in the open transaction, without waiting; return it, or nothing.

        A process that freezes with the lock would keep it for ever. So the server ends a session
        that sends nothing for ``freeze_ms`` milliseconds, where it has such a limit for one
        transaction (otherwise see `guarded_session`).
        """
        return fetch_rows(
            connection,
            f"SELECT {columns}, {self.freeze_guard} FROM {table} {where} {self.skip_locked}",
            [str(freeze_ms), *parameters],
        )

    def begin_run(
        self, connection: BaseDatabaseWrapper, partition: int, run: Any, freeze_ms: int
    ) -> list[Row]:
        """Give a partition that is free the token of a run; return what was there before.

        That is the token, how far the transport was read, and whether the clock was put back since.
        """
        # Two workers may find it free at the same moment: the lock lets one of them begin.
        where, columns = (
            f"WHERE id = %s AND {self.free_condition()}",
            f"run, positions, {self.was_put_back()}",
        )
        with transaction.atomic(using=connection.alias):
            rows = self.lock_row(connection, columns, PARTITION, where, [partition], freeze_ms)
            if rows:
                self.set_run(connection, partition, run)
        return rows

    def free_condition(self) -> str:
        """Return the condition that no run is on a partition, also not between two transactions."""
        alive = self.shows_life("last_run_at")
        return f"NOT paused AND (run IS NULL OR last_run_at IS NULL OR NOT {alive})"

    def set_run(
        self,
        connection: BaseDatabaseWrapper,
        partition: int,
        run: Any,
        positions: str | None = None,
    ) -> None:
        """Write which run is on a partition, or (None) that the last one ended, under its lock.

        ``positions``: how far the transport was read or published to; None: as before.
        """
        moved, parameters = positions_change(positions)
        change_rows(
            connection,
            f"UPDATE {PARTITION} SET run = %s, last_run_at = {self.run_time()}{moved} WHERE id = %s",
            [self.uuid(run), *parameters, partition],
        )

    def claim_delivery(
        self,
        connection: BaseDatabaseWrapper,
        partition: int,
        run: Any,
        freeze_ms: int,
        delivery: int,
    ) -> bool:
        """See `dispatching.claim_delivery`."""
        parameters = [str(freeze_ms), partition, self.uuid(run), delivery]
        return bool(self.fetch_fast(connection, _claim_statement(self), parameters))

    @contextmanager
    def guarded_session(self, connection: BaseDatabaseWrapper, freeze_ms: int) -> Iterator[None]:
        """Have the server end this session, within the block, when it freezes."""
        yield  # only MySQL needs it: on PostgreSQL `lock_row` sets a limit for one transaction

    # Errors, and locks of operators

    @classmethod
    def gave_way(cls, error: BaseException, *, waited: bool) -> bool:
        """Return whether the database ended a statement for the sake of another transaction."""
        return False

    @classmethod
    def commits_implicitly(cls, statement: str) -> bool:
        """Return whether a statement commits the transaction in which it is executed."""
        return False

    @classmethod
    def is_ended(cls, driver: Any) -> bool:
        """Return whether a driver's connection is known to be in no transaction any more."""
        return False

    @classmethod
    def is_aborted(cls, driver: Any) -> bool:
        """Return whether the transaction of a driver's connection can only be rolled back."""
        return False

    def refuses_writes(self, connection: BaseDatabaseWrapper) -> bool:
        """Return whether the database can be read, but not written; one statement."""
        ((refused,),) = fetch_rows(connection, f"SELECT {self.read_only}", [])
        return bool(refused)

    def lock_tables(self, connection: BaseDatabaseWrapper, names: Sequence[str]) -> None:
        """Keep writers away from tables in the open transaction, where that is possible."""
        # On SQLite it has begun with the only write lock. MySQL has no such lock in a transaction.


@cache
def insert_text(sql: Dialect, insert: Insert) -> tuple[str, str, str]:
    """Return head, marks of one row and tail of an INSERT; VALUES and rows go before the tail."""
    names = {"key": sql.key, "partition": sql.partition}
    columns = [*insert.shared, *insert.columns]
    quoted = ", ".join(names.get(each, each) for each in (*columns, *insert.constants))
    given = [insert.computed.get(each, "{}").format("%s") for each in columns]
    marks = ", ".join([*given, *constant_expressions(sql, insert)])
    tail = f"RETURNING {insert.returning}"
    if insert.unique is not None:
        tail = f"ON CONFLICT {insert.unique} DO NOTHING {tail}"
    return f"INSERT INTO {insert.table} ({quoted})", f"({marks})", tail


def constant_expressions(sql: Dialect, insert: Insert) -> list[str]:
    """Return what every row has in the columns that do not come as parameters."""
    return [sql.now if each == "{now}" else each for each in insert.constants.values()]


@cache
def _claim_statement(sql: Dialect) -> str:
    # Another worker may finish the delivery between our snapshot and our lock. PostgreSQL checks
    # the WHERE of the UPDATE again on the newest version of the row, which does not match any more;
    # without `state = 'ready'` in it the delivery would be handled twice.
    return (
        f"WITH held AS (SELECT id, {sql.freeze_guard} FROM {PARTITION}"
        f" WHERE id = %s AND run = %s AND NOT paused {sql.skip_locked})"
        f" UPDATE {DELIVERY} SET state = 'done', holds = FALSE, finished_at = {sql.now}"
        " WHERE id = %s AND state = 'ready' AND due_at IS NULL AND EXISTS (SELECT 1 FROM held)"
        " RETURNING id"
    )
