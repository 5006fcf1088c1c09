"""MySQL and MariaDB, which share a vendor in Django.

Neither has ``ON CONFLICT DO NOTHING``. ``INSERT IGNORE`` would turn every other error into a
warning as well, and ``ON DUPLICATE KEY UPDATE`` does not say which rows are new. So rows are
inserted plainly, and the unique constraint decides (rule O7), also against a transaction that is
still open: InnoDB waits for its end. Only after a refusal the known ids are read, and the other
rows are inserted again. They are read with a lock, so that the newest committed state counts and
not the snapshot of this transaction.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Any, ClassVar
from uuid import UUID

from django.db import IntegrityError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.exceptions import SettingsError

from ..common import DELIVERY, INBOX, OUTBOX, PARTITION, QUARANTINE, STREAM, fetch_rows
from ..packets import packets
from .base import ROWS, Dialect, Insert, Row, Rows, insert_text
from .values import as_uuid, stored_zone

_DUPLICATE = 1062
_DEADLOCK = {1213, 1020}  # 1020: the row has changed since this transaction's snapshot
_WAITED_TOO_LONG = 1205
_TRIES = 100
_COMMITS = re.compile(
    r"\s*(CREATE|DROP)\s+(?!TEMPORARY)|\s*(ALTER|TRUNCATE|RENAME|LOCK|UNLOCK|GRANT|REVOKE|ANALYZE"
    r"|OPTIMIZE|REPAIR|FLUSH|LOAD\s+INDEX|CACHE\s+INDEX|SET\s+PASSWORD)\b",
    re.IGNORECASE,
)


class MySQL(Dialect):
    """MySQL.

    Attributes:
        collation: compares every byte, trailing spaces included: two keys are one key only if
            they are the same.
        returning: INSERT can return the rows that it has stored.
        idle_limit: the variable of a session after whose seconds without a statement the server
            ends it: within a transaction on MariaDB, at any time on MySQL.
    """

    follows_streams = False
    waits_for_inserts = True
    deadlocks_roll_back = True

    oldest: ClassVar[tuple[int, ...]] = (8, 0, 17)
    collation = "utf8mb4_0900_bin"
    returning = False
    idle_limit = "wait_timeout"

    among = "IN %s"
    skip_locked = "FOR UPDATE SKIP LOCKED"
    event_columns = Dialect.event_columns.replace("key", "`key`")
    key = "`key`"
    partition = "`partition`"
    layout_share = " LOCK IN SHARE MODE"  # nothing is written for it, unlike on PostgreSQL
    true = " = TRUE"
    read_only = "CAST(@@GLOBAL.read_only AS CHAR) NOT IN ('0', 'OFF')"
    by_id = " FORCE INDEX (PRIMARY)"

    def __init__(self, *, uuids: bool, offset: int) -> None:
        # The server's own zone is of no use: Django stores UTC, or what its settings say.
        utc = "UTC_TIMESTAMP(6)"
        self.now = f"({utc} + INTERVAL {offset} SECOND)" if offset else utc
        self.later = f"({self.now} + INTERVAL %s SECOND)"
        self._uuids = uuids  # the server has a type for them

    @classmethod
    def of(cls, connection: Any) -> "MySQL":
        kind = MariaDB if connection.mysql_is_mariadb else MySQL
        # An older one cannot skip locked rows, or its collations take some keys for others.
        if connection.mysql_version < kind.oldest:
            raise SettingsError(
                f"the database {connection.alias!r} is {connection.mysql_server_info}; "
                "outbox_inbox needs MariaDB 10.6 or MySQL 8.0.17"
            )
        offset = datetime.now(stored_zone(connection)).utcoffset()
        seconds = int(offset.total_seconds()) if offset else 0
        return _instance(kind, uuids=connection.features.has_native_uuid_field, offset=seconds)

    def members(self, values: Sequence[Any]) -> Any:
        return tuple(map(self.uuid, values)) or (None,)  # a list must not be empty

    def seconds_until(self, column: str) -> str:
        return f"TIMESTAMPDIFF(MICROSECOND, {self.now}, {column}) / 1000000"

    def uuid(self, value: Any) -> Any:
        if not isinstance(value, UUID):
            return value
        return str(value) if self._uuids else value.hex

    # Statements

    def forced_index(self, table: str) -> str:
        return f" FORCE INDEX (outbox_inbox_{_BY_STATE[table]})"

    def update_rows(
        self,
        connection: BaseDatabaseWrapper,
        table: str,
        new: str,
        where: str,
        parameters: Sequence[Any],
    ) -> int:
        # By ids that are found without locks. InnoDB's UPDATE locks every row that it looks at, and
        # waits for those that another transaction has inserted and not committed: a use case that
        # takes its time would stop the movers of a whole partition.
        changed = 0
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT id FROM {table} WHERE {where}", parameters)
            ids = [row[0] for row in cursor.fetchall()]
            for start in range(0, len(ids), ROWS):
                chunk = tuple(ids[start : start + ROWS])
                cursor.execute(f"UPDATE {table} SET {new} WHERE id IN %s", [chunk])
                changed += cursor.rowcount
        return changed

    def outermost_due(self, which: str, table: str, state: str, context: str, number: str) -> str:
        # In the index the rows that may be moved now come first, and a probe for an outer row reads
        # all of them: in a backlog, at every poll. This skips from one partition to the next.
        share = f"m.context, m.{self.partition}"
        return (
            f"(SELECT f.due FROM (SELECT {share} AS number, {which}(m.due_at) AS due FROM {table} m"
            f"{self.forced_index(table)} WHERE m.state = '{state}' GROUP BY m.state, {share}) f"
            f" WHERE f.context = {context} AND f.number = {number})"
        )

    def pair_condition(self, names: tuple[str, str], count: int) -> str:
        one, other = names  # a list of pairs would not use the index for each pair
        return f"({' OR '.join([f'({one} = %s AND {other} = %s)'] * count)})"

    # Inserting, and who was first

    def _values(self, rows: Rows) -> Iterator[Row]:
        return (tuple(map(self.uuid, row)) for row in rows)

    def insert_new(
        self, connection: BaseDatabaseWrapper, insert: Insert, rows: Rows, shared: Row = ()
    ) -> list[Row]:
        place = insert.columns.index("message_id")
        returned: list[Row] = []
        with connection.cursor() as cursor:
            for chunk in packets(self._values(rows), tuple, ROWS):
                # One id twice in a statement would be refused for ever: the first one stands.
                first = {row[place]: row for row in reversed(chunk)}
                left = [row for row in chunk if first[row[place]] is row]
                for tries_left in reversed(range(_TRIES)):
                    try:
                        returned += self._insert(cursor, insert, left, shared)
                        break
                    except IntegrityError as error:
                        _raise_unless_duplicate(error, tries_left)
                    # Another transaction may store one more between this look and the next try,
                    # which is why it is a loop.
                    found = self._stored(cursor, "message_id", insert, left, shared, _LOCKED)
                    known = {self.uuid(as_uuid(id_)) for (id_,) in found}
                    left = [row for row in left if row[place] not in known]
        return returned

    def insert_in_order(
        self, connection: BaseDatabaseWrapper, insert: Insert, rows: Rows
    ) -> list[Row]:
        returned: list[Row] = []
        with connection.cursor() as cursor:
            for chunk in packets(self._values(rows), tuple, ROWS):
                try:
                    returned += self._insert(cursor, insert, chunk)
                except IntegrityError as error:
                    _raise_unless_duplicate(error)
                    break  # at the first refusal: what was stored before is taken back by the caller
        return returned

    def _insert(self, cursor: Any, insert: Insert, rows: Rows, shared: Row = ()) -> list[Row]:
        """Insert all rows, or none; return one column of them. MySQL has to be asked for that."""
        if not rows:
            return []
        head, one, _ = insert_text(self, insert)
        cursor.execute(
            f"{head} VALUES {', '.join([one] * len(rows))}"
            + f" RETURNING {insert.returning}" * self.returning,
            [value for row in rows for value in (*shared, *row)],
        )
        if self.returning:
            return list(cursor.fetchall())
        tail = f"ORDER BY {insert.order}"
        return self._stored(cursor, insert.returning, insert, rows, shared, tail)

    def _stored(
        self, cursor: Any, column: str, insert: Insert, rows: Rows, shared: Row, tail: str
    ) -> list[Row]:
        """Return a column of those rows that are in the table."""
        place = insert.columns.index("message_id")
        scope = dict(zip(insert.shared, shared, strict=True))
        if "context" in insert.columns:  # the same for all rows of a call
            scope["context"] = rows[0][insert.columns.index("context")]
        which = "".join(f"{name} = %s AND " for name in scope)
        cursor.execute(
            f"SELECT {column} FROM {insert.table} WHERE {which}message_id IN %s {tail}",
            [*scope.values(), tuple(row[place] for row in rows)],
        )
        return list(cursor.fetchall())

    def move_to_inbox(
        self,
        connection: BaseDatabaseWrapper,
        table: str,
        id_: str,
        ids: Sequence[int],
        context: str,
        source: str,
    ) -> list[int]:
        # In the way of `insert_new`. It never reads a stream, which MySQL cannot follow.
        event = f"{self.event_columns}, key_hash, recorded_at"
        move = (
            f"INSERT INTO {INBOX} (context, source, {event}, received_at)"
            f" SELECT %s, %s, {event}, {self.now} FROM {OUTBOX}"
            " WHERE id IN %s AND message_id NOT IN %s ORDER BY id"
        )
        stored = (
            f"SELECT {{}} FROM {INBOX} i JOIN {OUTBOX} o ON o.message_id = i.message_id"
            " WHERE i.context = %s AND i.source = %s AND o.id IN %s AND i.message_id NOT IN %s {}"
        )
        which = [context, source, self.members(ids)]
        known = {self.uuid(UUID(int=0))}  # a list must not be empty
        with connection.cursor() as cursor:
            for tries_left in reversed(range(_TRIES)):
                try:
                    cursor.execute(move + " RETURNING id" * self.returning, [*which, tuple(known)])
                    break
                except IntegrityError as error:
                    _raise_unless_duplicate(error, tries_left)
                cursor.execute(stored.format("i.message_id", _LOCKED), [*which, tuple(known)])
                known |= {self.uuid(as_uuid(found)) for (found,) in cursor.fetchall()}
            if not self.returning:
                cursor.execute(stored.format("i.id", "ORDER BY i.id"), [*which, tuple(known)])
            return [row[0] for row in cursor.fetchall()]

    def lock_version(
        self, connection: BaseDatabaseWrapper, context: str, stream: str, version: int
    ) -> bool:
        # InnoDB leaves both of two insertions that it has refused with a shared lock, and whatever
        # one of them does next may be a deadlock with the other. Here the second waits for the event
        # that each of them locks, and is refused nothing.
        where = "WHERE context = %s AND stream = %s AND version = %s FOR UPDATE"
        statement = f"SELECT position FROM {STREAM} {where}"
        fetch_rows(connection, statement, [context, stream, version])
        return True

    # The lock of a partition

    def begin_run(
        self, connection: BaseDatabaseWrapper, partition: int, run: Any, freeze_ms: int
    ) -> list[Row]:
        # First a look without a lock. InnoDB locks a row to find out that it does not fit, and
        # unlocks it again. The worker of the partition, between two transactions, would skip its own
        # row in that moment and give up.
        where = f"WHERE id = %s AND {self.free_condition()}"
        if not fetch_rows(connection, f"SELECT 1 FROM {PARTITION} {where}", [partition]):
            return []
        return super().begin_run(connection, partition, run, freeze_ms)

    def claim_delivery(
        self,
        connection: BaseDatabaseWrapper,
        partition: int,
        run: Any,
        freeze_ms: int,
        delivery: int,
    ) -> bool:
        # Two statements, since an UPDATE cannot skip locked rows.
        free = f"WHERE id = %s AND run = %s AND NOT paused {self.skip_locked}"
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT id FROM {PARTITION} {free}", [partition, self.uuid(run)])
            if cursor.fetchone() is None:
                return False
            cursor.execute(
                f"UPDATE {DELIVERY} SET state = 'done', holds = FALSE, finished_at = {self.now}"
                " WHERE id = %s AND state = 'ready' AND due_at IS NULL",
                [delivery],
            )
            return bool(cursor.rowcount)

    @contextmanager
    def guarded_session(self, connection: BaseDatabaseWrapper, freeze_ms: int) -> Iterator[None]:
        session, limit = connection.connection, f"SESSION {self.idle_limit}"
        save = f"SET @outbox_inbox_idle = @@SESSION.{self.idle_limit}"
        with connection.cursor() as cursor:
            cursor.execute(f"{save}, {limit} = %s", [-(-freeze_ms // 1000)])
        try:
            yield
        finally:
            # Another session never had the limit, and a broken one has none any more.
            if connection.connection is session and connection.is_usable():
                with connection.cursor() as cursor:
                    cursor.execute(f"SET {limit} = @outbox_inbox_idle")

    @classmethod
    def commits_implicitly(cls, statement: str) -> bool:
        return _COMMITS.match(statement) is not None

    @classmethod
    def gave_way(cls, error: BaseException, *, waited: bool) -> bool:
        number = error.args[0] if isinstance(error, OperationalError) and error.args else None
        return number in _DEADLOCK or (waited and number == _WAITED_TOO_LONG)


class MariaDB(MySQL):
    """MariaDB, where it differs from MySQL."""

    oldest = (10, 6)
    collation = "utf8mb4_nopad_bin"
    returning = True
    idle_limit = "idle_transaction_timeout"


_LOCKED = "LOCK IN SHARE MODE"
_BY_STATE = {OUTBOX: "out_state", DELIVERY: "del_state", QUARANTINE: "quarantine_state"}


@cache
def _instance(kind: type[MySQL], *, uuids: bool, offset: int) -> MySQL:
    return kind(uuids=uuids, offset=offset)


def _raise_unless_duplicate(error: IntegrityError, tries_left: int = 1) -> None:
    """Raise an error again, unless it is a duplicate and another try is left."""
    if error.args[:1] != (_DUPLICATE,) or not tries_left:
        raise error
