"""Those of the hot statements that MySQL and MariaDB need in another form.

Neither has ``ON CONFLICT DO NOTHING``. ``INSERT IGNORE`` would turn every other error into a
warning as well, and ``ON DUPLICATE KEY UPDATE`` does not say which rows are new. So rows are
inserted plainly: the unique constraint decides (rule O7), also against a transaction that is still
open, for whose end InnoDB waits. Only when it refuses is asked whose ids are known, and the others
are inserted again. Every known id is read with a lock, so that it is the newest state that counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import IntegrityError
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.models import Delivery, InboxMessage, OutboxMessage, Partition, table

from .dialects import MySQL, as_uuid

OUTBOX = table(OutboxMessage)
INBOX = table(InboxMessage)
DELIVERY = table(Delivery)
PARTITION = table(Partition)

_ROWS = 500  # in one INSERT
_CHARACTERS = 1_000_000  # the same; a server takes packets of 16 MB unless told otherwise
_DUPLICATE = 1062
_TRIES = 100

Rows = Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Insert:
    """An INSERT of any number of rows, and how to find them again.

    Fields:
        table: the name of the table.
        columns: their names, in parentheses.
        row: a ``%s`` or an expression for each of them, in parentheses.
        returning: the column that is asked for.
        place: where among the parameters of a row its message id stands.
        scope: the values of other columns within which the message id is unique.
        order: the primary key.
    """

    table: str
    columns: str
    row: str
    returning: str
    place: int = 1
    scope: Mapping[str, str] = field(default_factory=dict)
    order: str = "id"

    def execute(self, cursor: Any, say: MySQL, rows: Rows) -> list[tuple[Any, ...]]:
        """Insert all rows, or none; return a column of them. MySQL has to be asked for that."""
        values = ", ".join([self.row] * len(rows))
        tail = f" RETURNING {self.returning}" if say.returning else ""
        cursor.execute(
            f"INSERT INTO {self.table} {self.columns} VALUES {values}{tail}",
            [value for each in rows for value in each],
        )
        if not say.returning:
            self.select(cursor, self.returning, rows, f"ORDER BY {self.order}")
        return list(cursor.fetchall())

    def select(self, cursor: Any, column: str, rows: Rows, tail: str) -> None:
        """Ask for a column of those rows that are there."""
        scope = "".join(f"{name} = %s AND " for name in self.scope)
        cursor.execute(
            f"SELECT {column} FROM {self.table} WHERE {scope}message_id IN %s {tail}",
            [*self.scope.values(), tuple(each[self.place] for each in rows)],
        )


def insert_new(
    connection: BaseDatabaseWrapper, say: MySQL, insert: Insert, rows: Rows
) -> list[tuple[Any, ...]]:
    """Insert those rows whose message id is new; return one column of them, in order."""
    returned: list[tuple[Any, ...]] = []
    with connection.cursor() as cursor:
        for chunk in _chunks(rows):
            first = {each[insert.place]: each for each in reversed(chunk)}
            left = [each for each in chunk if first[each[insert.place]] is each]
            returned += _insert_until_accepted(cursor, say, insert, left)
    return returned


def _insert_until_accepted(
    cursor: Any, say: MySQL, insert: Insert, left: Rows
) -> list[tuple[Any, ...]]:
    for tries_left in reversed(range(_TRIES)):
        if not left:
            break
        try:
            return insert.execute(cursor, say, left)
        except IntegrityError as error:
            if not _is_duplicate(error) or not tries_left:
                raise
        insert.select(cursor, "message_id", left, "LOCK IN SHARE MODE")
        known = {say.uuid(as_uuid(found)) for (found,) in cursor.fetchall()}
        left = [each for each in left if each[insert.place] not in known]
    return []


def insert_all(
    connection: BaseDatabaseWrapper, say: MySQL, insert: Insert, rows: Rows
) -> list[tuple[Any, ...]]:
    """Insert rows until a unique constraint refuses some; return one column of those inserted."""
    returned: list[tuple[Any, ...]] = []
    with connection.cursor() as cursor:
        for chunk in _chunks(rows):
            try:
                returned += insert.execute(cursor, say, chunk)
            except IntegrityError as error:
                if not _is_duplicate(error):
                    raise
                break
    return returned


def lock_version(
    connection: BaseDatabaseWrapper, stored: str, context: str, stream: str, version: int
) -> None:
    """Take the lock of one event, which others want as well before they append behind it.

    Two insertions that InnoDB has refused both keep a shared lock, and what either does next may
    be a deadlock. Whoever waits here is refused nothing.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT position FROM {stored} WHERE context = %s AND stream = %s AND version = %s"
            " FOR UPDATE",
            [context, stream, version],
        )
        cursor.fetchall()


def _is_duplicate(error: IntegrityError) -> bool:
    return bool(error.args) and error.args[0] == _DUPLICATE


def _chunks(rows: Rows) -> Iterator[list[Sequence[Any]]]:
    chunk: list[Sequence[Any]] = []
    size = 0
    for row in rows:
        length = sum(len(value) for value in row if isinstance(value, str))
        if chunk and (len(chunk) == _ROWS or size + length > _CHARACTERS):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += length
    if chunk:
        yield chunk


def move_to_inbox(
    connection: BaseDatabaseWrapper,
    say: MySQL,
    event: str,
    ids: Sequence[int],
    context: str,
    source: str,
) -> list[int]:
    """Copy outbox messages into an inbox of the same database; return the ids of the new rows."""
    move = (
        f"INSERT INTO {INBOX} (context, source, {event}, key_hash, recorded_at, received_at)"
        f" SELECT %s, %s, {event}, key_hash, recorded_at, {say.now} FROM {OUTBOX}"
        " WHERE id IN %s AND message_id NOT IN %s ORDER BY id"
    )
    there = (
        f"SELECT {{}} FROM {INBOX} i JOIN {OUTBOX} o ON o.message_id = i.message_id"
        " WHERE i.context = %s AND i.source = %s AND o.id IN %s AND i.message_id NOT IN %s {}"
    )
    which = [context, source, say.members(ids)]
    known = {say.uuid(UUID(int=0))}  # a list must not be empty
    with connection.cursor() as cursor:
        for tries_left in reversed(range(_TRIES)):
            try:
                cursor.execute(move + " RETURNING id" * say.returning, [*which, tuple(known)])
            except IntegrityError as error:
                if not _is_duplicate(error) or not tries_left:
                    raise
                asked = there.format("i.message_id", "LOCK IN SHARE MODE")
                cursor.execute(asked, [*which, tuple(known)])
                known |= {say.uuid(as_uuid(found)) for (found,) in cursor.fetchall()}
            else:
                break
        if not say.returning:
            cursor.execute(there.format("i.id", "ORDER BY i.id"), [*which, tuple(known)])
        return [row[0] for row in cursor.fetchall()]


def insert_deliveries(
    connection: BaseDatabaseWrapper,
    say: MySQL,
    insert: str,
    message_ids: Sequence[int],
    interests: Sequence[tuple[str, str, int]],
    partitions: int,
) -> None:
    """Make the deliveries of new inbox messages; ``insert`` has a gap for the consumers."""
    # Literals have the collation of the connection, which may take two names for one.
    first = f"SELECT %s COLLATE {say.collation} AS type, %s AS consumer, %s AS hash"
    others = f" UNION ALL SELECT %s COLLATE {say.collation}, %s, %s" * (len(interests) - 1)
    with connection.cursor() as cursor:
        cursor.execute(
            insert.format(f"({first}{others}) c"),
            [
                partitions,
                *(value for interest in interests for value in interest),
                say.members(message_ids),
            ],
        )


def claim(
    connection: BaseDatabaseWrapper, say: MySQL, partition: int, run: UUID, delivery: int
) -> bool:
    """Take the partition lock and mark one delivery as done, in two statements."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id FROM {PARTITION} WHERE id = %s AND run = %s AND NOT paused"
            f" {say.skip_locked}",
            [partition, say.uuid(run)],
        )
        if cursor.fetchone() is None:
            return False
        cursor.execute(
            f"UPDATE {DELIVERY} SET state = 'done', holds = FALSE, finished_at = {say.now}"
            " WHERE id = %s AND state = 'ready' AND due_at IS NULL",
            [delivery],
        )
        return bool(cursor.rowcount)


def unblock_deliveries(
    connection: BaseDatabaseWrapper,
    say: MySQL,
    context: str,
    partition: int,
    pairs: Sequence[tuple[str, str]],
) -> int:
    """Let the followers of (consumer, key) pairs go whose blocked head is solved."""
    # Put like this each pair is a range of the index; a list of pairs would be no condition for it.
    chosen = " OR ".join([f"(consumer = %s AND {say.key} = %s)"] * len(pairs))
    where = f"context = %s AND {say.partition} = %s AND state = 'waiting' AND ({chosen})"
    parameters = [context, partition, *(value for pair in pairs for value in pair)]
    return update(connection, DELIVERY, "state = 'ready'", where, parameters)


def update(
    connection: BaseDatabaseWrapper,
    name: str,
    change: str,
    where: str,
    parameters: Sequence[Any],
) -> int:
    """Change the rows of a queue that a condition chooses; the caller has the partition's lock.

    InnoDB's UPDATE waits for rows that somebody has inserted and not committed, as far as they
    stand where it looks: a use case that takes its time would stop the movers. So rows are looked
    for without locks, and changed by their ids.
    """
    changed = 0
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id FROM {name} WHERE {where}", parameters)
        ids = [row[0] for row in cursor.fetchall()]
        for start in range(0, len(ids), _ROWS):
            chunk = tuple(ids[start : start + _ROWS])
            cursor.execute(f"UPDATE {name} SET {change} WHERE id IN %s", [chunk])
            changed += cursor.rowcount
    return changed


def guard_session(connection: BaseDatabaseWrapper, say: MySQL, freeze_ms: int) -> None:
    """Have the server throw out this session if it is idle too long."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SET @outbox_inbox_idle = @@SESSION.{say.idle_limit}, SESSION {say.idle_limit} = %s",
            [-(-freeze_ms // 1000)],
        )


def unguard_session(connection: BaseDatabaseWrapper, say: MySQL) -> None:
    """Give the session back the time that it had."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET SESSION {say.idle_limit} = @outbox_inbox_idle")
