"""The SQL of catch-up subscriptions: what is new in a context's stream, and the next page of it.

A reader must lose no event that commits late, and must not wait for somebody else's transaction.

PostgreSQL: the difference of two snapshots. ``done`` is a snapshot whose events have all been
handled, ``target`` a later one that is being worked off, in order of position. The set between the
two is fixed, so nothing can slip in behind the position; what commits late belongs to the next
target. A snapshot never holds a later commit without an earlier one that it waited for, so the
events of a stream come in the order of their versions, whatever the order of transaction ids.
Rows carry the id of their transaction (``xid``), with an index on (context, xid, position).

SQLite: positions are given out under the only write lock, so "after this position" is enough.

MySQL and MariaDB tell nobody which transactions a snapshot has seen; subscriptions are not offered.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.exceptions import SettingsError

from .common import CHECKPOINT, STREAM, change, fetch
from .dialects import dialect

FROM_THE_BEGINNING = "1:1:"
"""A snapshot that has seen nothing: no transaction has an id below 3."""

_FEW = 10_000  # new events that are looked up one by one rather than met on a walk
_COLUMNS = (
    "s.position, s.stream, s.version, s.message_id, s.type, s.schema_version, s.key, {payload},"
    " {headers}, s.correlation_id, s.causation_id, s.hops, s.key_hash, s.kind, {recorded_at}"
)
_BARE = (
    "s.position, s.stream, s.version, NULL, s.type, s.schema_version, NULL, {payload}, NULL, NULL,"
    " NULL, NULL, NULL, NULL, NULL"
)
_BEYOND = "s.xid >= pg_snapshot_xmax({0}::pg_snapshot)"
_AMONG = "s.xid = ANY(ARRAY(SELECT pg_snapshot_xip({0}::pg_snapshot)))"


class Stored(NamedTuple):
    """One event of a page; the text is only there when it was asked for, and nobody has read it."""

    position: int
    stream: str
    version: int
    message_id: Any
    type: str
    schema_version: int
    key: str | None
    payload: str | None
    headers: str | None
    correlation_id: Any
    causation_id: Any
    hops: int
    key_hash: int
    kind: str
    recorded_at: Any

    @property
    def id(self) -> int:
        """Return the position: what the relay knows it by, like the id of an outbox row."""
        return self.position


class Mark(NamedTuple):
    """How far a subscription is: the columns of `Checkpoint` that move."""

    done: str
    target: str | None
    position: int
    last: int
    size: int


class Lock(NamedTuple):
    """A checkpoint of which this transaction has the lock."""

    id: int
    mark: Mark
    cluster: str
    paused: bool
    resting: bool
    failures: int


class Waiting(NamedTuple):
    """A subscription, and whether there is something for it now."""

    context: str
    subscription: str
    ready: bool
    paused: bool
    resting: bool


def serves(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a database can serve catch-up subscriptions."""
    return connection.vendor in ("postgresql", "sqlite")


def by_snapshots(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether snapshots say what is new on a database; otherwise positions do.

    Within a ``TestCase`` everything is one transaction, of which no snapshot has ever seen anything;
    and nobody else writes, so positions are enough there on PostgreSQL, too.
    """
    if connection.vendor != "postgresql":
        return False
    blocks: list[Any] = connection.atomic_blocks
    return not (blocks and getattr(blocks[0], "_from_testcase", False))


def require(connection: BaseDatabaseWrapper) -> None:
    """Refuse a database that cannot serve them.

    Raises:
        SettingsError: it says which, and why.
    """
    if not serves(connection):
        raise SettingsError(
            f"the database {connection.alias!r} is {connection.vendor}, which cannot say what a "
            "transaction has seen of others: catch-up subscriptions need postgresql or sqlite"
        )


def lock(
    connection: BaseDatabaseWrapper, context: str, subscription: str, freeze_ms: int
) -> Lock | None:
    """Take the lock of a checkpoint in the open transaction; None: another has it, or there is none.

    On SQLite this is a write, which takes the database's only write lock.
    """
    say = dialect(connection)
    columns = (
        "id, done, target, position, last, size, cluster, paused,"
        f" retry_at IS NOT NULL AND retry_at > {say.now}, failures"
    )
    where = "WHERE context = %s AND subscription = %s"
    if say.skip_locked:
        sql = f"SELECT {columns}, {say.freeze_guard} FROM {CHECKPOINT} {where} {say.skip_locked}"
        rows = fetch(connection, sql, [str(freeze_ms), context, subscription])
    else:
        sql = f"UPDATE {CHECKPOINT} SET position = position {where} RETURNING {columns}"
        rows = fetch(connection, sql, [context, subscription])
    if not rows:
        return None
    id_, done, target, position, last, size, cluster, paused, resting, failures = rows[0][:10]
    mark = Mark(done, target, position, last, size)
    return Lock(id_, mark, cluster, bool(paused), bool(resting), failures)


def create(
    connection: BaseDatabaseWrapper, context: str, subscription: str, *, from_now: bool
) -> None:
    """Make a checkpoint, in the open transaction, unless there is one."""
    postgresql = by_snapshots(connection)
    done, position, cluster, parameters = "''", "0", "''", [context, subscription]
    if postgresql:
        done = "pg_current_snapshot()::text" if from_now else f"'{FROM_THE_BEGINNING}'"
        cluster = CLUSTER
    elif from_now:
        position = f"(SELECT COALESCE(MAX(position), 0) FROM {STREAM} WHERE context = %s)"
        parameters = [*parameters, context]
    change(
        connection,
        f"INSERT INTO {CHECKPOINT} (context, subscription, done, position, cluster, last, size,"
        f" paused, failures, error) VALUES (%s, %s, {done}, {position}, {cluster}, 0, 0, FALSE,"
        " 0, '') ON CONFLICT DO NOTHING",
        parameters,
    )


def exists(connection: BaseDatabaseWrapper, context: str, subscription: str) -> bool:
    """Tell whether there is such a checkpoint."""
    sql = f"SELECT 1 FROM {CHECKPOINT} WHERE context = %s AND subscription = %s"
    return bool(fetch(connection, sql, [context, subscription]))


def save(connection: BaseDatabaseWrapper, checkpoint: int, mark: Mark) -> None:
    """Write how far a subscription is, and that it works again."""
    change(
        connection,
        f"UPDATE {CHECKPOINT} SET done = %s, target = %s, position = %s, last = %s, size = %s,"
        f" changed_at = {dialect(connection).now}, failures = 0, error = '', retry_at = NULL"
        " WHERE id = %s",
        [*mark, checkpoint],
    )


def rest(connection: BaseDatabaseWrapper, checkpoint: int, error: str, seconds: float) -> None:
    """Let a subscription that failed rest for so many seconds."""
    change(
        connection,
        f"UPDATE {CHECKPOINT} SET failures = failures + 1, error = %s,"
        f" retry_at = {dialect(connection).later} WHERE id = %s",
        [error, seconds, checkpoint],
    )


def take_target(connection: BaseDatabaseWrapper, context: str, mark: Mark) -> Mark | None:
    """Return the mark with the next set to be worked off; None: nothing is new.

    SQLite has no sets: there every page is the whole of one.
    """
    if not by_snapshots(connection):
        return mark
    ((target, before, last, size),) = fetch(connection, *_target(context, mark.done))
    if not size:
        return None
    return Mark(mark.done, target, before, last, size)


def _target(context: str, done: str) -> tuple[str, list[Any]]:
    if done == FROM_THE_BEGINNING:
        # All of them are new: to count them would take long, and tell nothing.
        sql = (
            f"SELECT pg_current_snapshot()::text, 0, MAX(position), {_FEW + 1} * (MAX(position)"
            f" IS NOT NULL)::int FROM {STREAM}"
        )
        return sql, []
    # The count keeps PostgreSQL from walking along the primary key to the lowest position.
    sql = (
        "SELECT pg_current_snapshot()::text, MIN(position) - 1, MAX(position), COUNT(*)"
        f" FROM ({_new_positions('%s')}) n"
    )
    return sql, [context, done, context, done]


def _new_positions(done: str) -> str:
    """Return the SELECT of the positions of a context's events that ``done`` has not seen."""
    one = f"SELECT position FROM {STREAM} s WHERE s.context = %s AND "
    return f"{one}{_BEYOND.format(done)} UNION ALL {one}{_AMONG.format(done)}"


def page(
    connection: BaseDatabaseWrapper,
    context: str,
    mark: Mark,
    size: int,
    more: Sequence[str] = (),
    text: str = "{}",
    *,
    bare: bool = False,
) -> list[Stored]:
    """Return the next events of the target after the mark's position, in order.

    Arguments:
        more: further conditions on columns of ``s``, without parameters.
        text: what payload and headers are read by, in place of ``{}``.
        bare: without what only an envelope or the relay needs, which takes most of the time.
    """
    say = dialect(connection)
    columns = (_BARE if bare else _COLUMNS).format(
        payload=text.format("s.payload"),
        headers=text.format("s.headers"),
        recorded_at=say.utc.format("s.recorded_at"),
    )
    where = "".join(f" AND {each}" for each in more)
    tail = f"{where} ORDER BY s.position LIMIT %s"
    if not by_snapshots(connection):
        sql = f"SELECT {columns} FROM {STREAM} s WHERE s.context = %s AND s.position > %s{tail}"
        rows = fetch(connection, sql, [context, mark.position, size])
    elif mark.size > _FEW:
        rows = _walk(connection, columns, tail, context, mark, size)
    else:
        rows = _look_up(connection, columns, tail, context, mark, size)
    return list(map(Stored._make, rows))


def _walk(
    connection: BaseDatabaseWrapper,
    columns: str,
    tail: str,
    context: str,
    mark: Mark,
    size: int,
) -> list[tuple[Any, ...]]:
    """Walk along the primary key, from the position to the last one of the target."""
    sql = (
        f"SELECT {columns} FROM {STREAM} s WHERE s.context = %s AND s.position > %s"
        " AND s.position <= %s AND pg_visible_in_snapshot(s.xid, %s::pg_snapshot)"
        f" AND NOT pg_visible_in_snapshot(s.xid, %s::pg_snapshot){tail}"
    )
    parameters = [context, mark.position, mark.last, mark.target, mark.done, size]
    return fetch(connection, sql, parameters)


def _look_up(
    connection: BaseDatabaseWrapper,
    columns: str,
    tail: str,
    context: str,
    mark: Mark,
    size: int,
) -> list[tuple[Any, ...]]:
    """Look few events up by their transactions: there may be millions of others between them."""
    sql = (
        f"WITH new AS MATERIALIZED ({_new_positions('%s')})"
        f" SELECT {columns} FROM new JOIN {STREAM} s ON s.position = new.position"
        " WHERE s.position > %s AND s.position <= %s"
        f" AND pg_visible_in_snapshot(s.xid, %s::pg_snapshot){tail}"
    )
    done = mark.done
    parameters = [context, done, context, done, mark.position, mark.last, mark.target, size]
    return fetch(connection, sql, parameters)


def waiting(connection: BaseDatabaseWrapper, contexts: Sequence[str]) -> list[Waiting]:
    """Say for each subscription of some contexts whether there is something new; one statement."""
    say = dialect(connection)
    if by_snapshots(connection):
        some = f"EXISTS (SELECT 1 FROM {STREAM} s WHERE s.context = c.context AND {{}})"
        beyond, among = _BEYOND.format("c.done"), _AMONG.format("c.done")
        ready = f"c.target IS NOT NULL OR {some.format(beyond)} OR {some.format(among)}"
    else:
        ready = (
            f"EXISTS (SELECT 1 FROM {STREAM} s WHERE s.context = c.context"
            " AND s.position > c.position)"
        )
    rows = fetch(
        connection,
        f"SELECT c.context, c.subscription, {ready}, c.paused,"
        f" c.retry_at IS NOT NULL AND c.retry_at > {say.now}"
        f" FROM {CHECKPOINT} c WHERE c.context {say.among}",
        [say.members(contexts)],
    )
    return [Waiting(row[0], row[1], *map(bool, row[2:])) for row in rows]


def behind(
    connection: BaseDatabaseWrapper, context: str, subscription: str, more: Sequence[str] = ()
) -> tuple[int, Any]:
    """Return how many events a subscription has still to handle, and when the first was recorded.

    Arguments:
        more: further conditions on columns of ``s``, without parameters.
    """
    where = "".join(f" AND {each}" for each in more)
    if by_snapshots(connection):
        new = (
            f"({_BEYOND.format('c.done')} OR {_AMONG.format('c.done')}) AND NOT (c.target IS NOT"
            " NULL AND s.position <= c.position"
            " AND pg_visible_in_snapshot(s.xid, c.target::pg_snapshot))"
        )
    else:
        new = "s.position > c.position"
    sql = (
        f"SELECT COUNT(*), MIN(s.recorded_at) FROM {CHECKPOINT} c JOIN {STREAM} s"
        f" ON s.context = c.context AND {new}{where}"
        " WHERE c.context = %s AND c.subscription = %s"
    )
    if not exists(connection, context, subscription):
        sql = f"SELECT COUNT(*), MIN(s.recorded_at) FROM {STREAM} s WHERE s.context = %s{where}"
        ((count, oldest),) = fetch(connection, sql, [context])
        return count, oldest
    ((count, oldest),) = fetch(connection, sql, [context, subscription])
    return count, oldest


CLUSTER = "(SELECT system_identifier::text FROM pg_control_system())"


def foreign(connection: BaseDatabaseWrapper, context: str, cluster: str) -> bool:
    """Tell whether transaction ids in stream or checkpoint are those of another server.

    That is so after a dump was restored, and nothing that is based on them can be trusted.
    """
    if not by_snapshots(connection):
        return False
    ((same, known),) = fetch(
        connection,
        f"SELECT {CLUSTER} = %s, COALESCE((SELECT s.xid < pg_snapshot_xmax(pg_current_snapshot())"
        " OR s.xid = pg_current_xact_id_if_assigned()"
        f" FROM {STREAM} s WHERE s.context = %s ORDER BY s.xid DESC LIMIT 1), TRUE)",
        [cluster, context],
    )
    return not (same and known)


def of_types(types: Sequence[str]) -> str:
    """Return the condition that an event has one of these stored names."""
    names = ", ".join("'" + name.replace("'", "''").replace("%", "%%") + "'" for name in types)
    return f"s.type IN ({names})" if names else "FALSE"
