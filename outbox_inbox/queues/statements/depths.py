"""How full the queues are: each figure is counted up to a limit, along the index that serves it.

A count of all rows takes longest when the backlog is largest, and that is when an operator looks. So
the indexes are probed first, and what is there is counted until the limit is passed. The order of
each statement is that of one index: with it the planner reads that index also when its statistics
are those of another day, and most of what they describe is finished.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.models import OutboxMessage, table

from .common import INBOX, OUTBOX, PARTITION, QUARANTINE, fetch_rows
from .dialects import Dialect, dialect, time_parameter
from .states import idle_state

_BRANCHES = 100  # of one UNION: SQLite takes 500
# As sums: from the plain columns a planner would conclude that there are next to none, and rather
# read the whole table for them than the index.
_FRESH, _TRIED = "m.attempts + 0 = 0", "m.attempts + 0 > 0"
_LATER = "CASE WHEN c.since IS NULL THEN 'backing_off' ELSE 'scheduled' END"
# As a range: the order is then one that only the index of the state has.
_IN_CONTEXT = "m.context >= %s AND m.context <= %s"
_NEVER = "CASE WHEN FALSE THEN m.due_at END"  # null, of the type of a time stamp


class Share(NamedTuple):
    """A partition of a queue that has rows to be moved, and which sorts of them."""

    context: str
    number: int
    first: int | None
    """Id of the row that is processed next; None: there is none."""
    timed: bool
    waiting: bool


class Counted(NamedTuple):
    """Rows of one state in one context, counted up to a limit."""

    context: str
    state: str
    total: int
    lowest: int
    """The lowest id among them."""
    since: Any
    """For rows that were scheduled and have come due: when the first of them did."""


class _Rows(NamedTuple):
    """A query for rows of a queue, in the order of an index, and its parameters."""

    text: str
    parameters: Sequence[Any]


def find_shares(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    queue: str,
    last: Mapping[str, int],
) -> list[Share]:
    """Return the partitions that have rows which are not final, dead ones apart.

    Also those that rows name and that do not exist: it is unknown which sorts of rows they have.

    Arguments:
        last: label of each context -> the highest number of an existing partition; -1: there is none.
    """
    sql, name, place = dialect(connection), table(model), ("p.context", "p.number")
    at_once, _, waiting = _sorts(model)
    probes = ", ".join(
        (
            sql.first_row(name, "id", at_once, *place),
            sql.outermost_due("MIN", name, idle_state(model), *place),
            sql.first_row(name, sql.partition, waiting, *place),
        )
    )
    rows = fetch_rows(
        connection,
        f"SELECT p.context, p.number, {probes} FROM {PARTITION} p"
        f" WHERE p.queue = %s AND p.context {sql.among}",
        [queue, sql.members(list(last))],
    )
    found = [
        Share(context, number, first, timed is not None, waiting is not None)
        for context, number, first, timed, waiting in rows
        if (first, timed, waiting) != (None, None, None)
    ]
    return [*found, *_stray_shares(connection, model, last)]


def _sorts(model: type[models.Model]) -> tuple[str, str, str]:
    """Return the conditions of the sorts of rows, each of which has an index."""
    idle = f"m.state = '{idle_state(model)}' AND m.due_at IS"
    return f"{idle} NULL", f"{idle} NOT NULL", "m.state = 'waiting'"


def _stray_shares(
    connection: BaseDatabaseWrapper, model: type[models.Model], last: Mapping[str, int]
) -> Iterator[Share]:
    """Yield the partitions behind the last ones; one statement, and one more for each of them."""
    sql, name = dialect(connection), table(model)
    left = dict(last)
    while left:
        places = [(label, condition) for label in left for condition in _sorts(model)]
        probes = [
            _Rows(
                f"SELECT (SELECT m.{sql.partition} FROM {name} m{sql.forced_index(name)}"
                f" WHERE m.context = %s AND m.{sql.partition} > %s AND {condition}"
                f" ORDER BY m.{sql.partition} LIMIT 1) AS number",
                [label, left[label]],
            )
            for label, condition in places
        ]
        found: dict[str, int] = {}
        for place, number in _union(connection, probes):
            if number is not None:
                label = places[place][0]
                found[label] = min(number, found.get(label, number))
        yield from (Share(label, number, -1, True, True) for label, number in found.items())
        left = found


def count_rows(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    labels: Sequence[str],
    shares: Sequence[Share],
    most: int,
    clock: tuple[datetime, datetime],
) -> list[Counted]:
    """Return what is in the queues of some contexts, by state; a count is at most ``most`` + 1.

    "scheduled" is a row that is due in the future and was never tried. A retry that has come due still
    counts as "backing_off".

    Arguments:
        shares: what `find_shares` has found in these contexts.
        clock: the database's time, and the time after which no retry is due. What is due after it is
            not searched for retries: among a million time-outs the search would read all of them.
    """
    now, late = (time_parameter(connection, each) for each in clock)
    walks = _Walks(dialect(connection), model, most + 1, now, late)
    places: list[str] = []
    queries: list[_Rows] = []
    for label in labels:
        counts = list(walks.counts(label, [each for each in shares if each.context == label]))
        places += [label] * len(counts)
        queries += counts
    found = [Counted(places[place], *row) for place, *row in _union(connection, queries)]
    return [each for each in found if each.total]


class _Walks:
    """Queries for the rows of a queue, each in the order of an index and up to a limit."""

    def __init__(
        self, sql: Dialect, model: type[models.Model], limit: int, now: Any = None, late: Any = None
    ) -> None:
        self._partition = f"m.{sql.partition}"
        self._limit = limit
        self._now, self._late = now, late
        self._idle = idle_state(model)
        self._at_once, self._later, self._waiting = _sorts(model)
        self._from = f"FROM {table(model)} m{sql.forced_index(table(model))}"

    def counts(self, label: str, shares: Sequence[Share]) -> Iterator[_Rows]:
        """Yield the queries that count what a context has, one or two for each state."""
        timed = [each for each in shares if each.timed]
        for state, condition, values in (
            (f"'{self._idle}'", f"{_FRESH} AND m.due_at <= %s", [self._now]),
            ("'backing_off'", f"{_TRIED} AND m.due_at <= %s", [self._late]),
            (_LATER, f"m.due_at > %s AND ({_FRESH} OR m.due_at > %s)", [self._now, self._late]),
        ):
            rows = [self._timed(condition, values, each) for each in timed]
            yield from self._counted(state, rows)
        for state, condition, found in (
            (self._idle, self._at_once, [each for each in shares if each.first is not None]),
            ("waiting", self._waiting, [each for each in shares if each.waiting]),
        ):
            if found:
                yield from self._counted(f"'{state}'", [self._walk(condition, label, found)])
        yield from self._counted("'dead'", [self.dead(label)])

    def _timed(self, condition: str, values: Sequence[Any], share: Share) -> _Rows:
        return _Rows(
            "SELECT m.id, CASE WHEN m.attempts = 0 THEN m.due_at END AS since"
            f" {self._from} WHERE m.context = %s AND {self._partition} = %s AND {self._later}"
            f" AND {condition} ORDER BY m.due_at LIMIT {self._limit:d}",
            [share.context, share.number, *values],
        )

    def _walk(self, condition: str, label: str, shares: Sequence[Share]) -> _Rows:
        numbers = ", ".join(str(each.number) for each in shares)
        return _Rows(
            f"SELECT m.id, {_NEVER} AS since {self._from}"
            f" WHERE {_IN_CONTEXT} AND {self._partition} IN ({numbers}) AND {condition}"
            f" ORDER BY m.context LIMIT {self._limit:d}",
            [label, label],
        )

    def dead(self, label: str, more: str = "") -> _Rows:
        """Return the query for the dead rows of a context."""
        return _Rows(
            f"SELECT m.id, {_NEVER} AS since {self._from}"
            f" WHERE {_IN_CONTEXT} AND m.state = 'dead'{more}"
            f" ORDER BY m.context LIMIT {self._limit:d}",
            [label, label],
        )

    def _counted(self, state: str, parts: Sequence[_Rows]) -> Iterator[_Rows]:
        """Yield the query that counts the rows of others, until the limit is reached."""
        if parts:
            rows = parts[0].text
            if parts[1:]:
                every = (f"SELECT * FROM ({each.text}) r" for each in parts)
                rows = f"{' UNION ALL '.join(every)} LIMIT {self._limit:d}"
            yield _Rows(
                f"SELECT {state} AS state, COUNT(*) AS total, MIN(c.id) AS lowest,"
                f" MIN(c.since) AS since FROM ({rows}) c" + " GROUP BY 1" * (state == _LATER),
                [value for each in parts for value in each.parameters],
            )


def _union(connection: BaseDatabaseWrapper, queries: Sequence[_Rows]) -> list[tuple[Any, ...]]:
    """Return the rows of many queries, each with the place of its query before its own columns."""
    found: list[tuple[Any, ...]] = []
    for start in range(0, len(queries), _BRANCHES):
        chunk = queries[start : start + _BRANCHES]
        texts = [f"SELECT {n:d}, q.* FROM ({each.text}) q" for n, each in enumerate(chunk, start)]
        values = [value for each in chunk for value in each.parameters]
        found += fetch_rows(connection, " UNION ALL ".join(texts), values)
    return found


def parked_keys(
    connection: BaseDatabaseWrapper, model: type[models.Model], label: str, most: int, shown: int
) -> tuple[int, list[tuple[str, str | None]]]:
    """Return how many keys of a context are parked, at most ``most`` + 1, and key and consumer of a few."""
    sql, name = dialect(connection), table(model)
    blocks = f" AND m.holds{sql.true} AND m.{sql.key} IS NOT NULL"
    heads = _Walks(sql, model, most + 1).dead(label, blocks)
    consumer = "NULL" if model is OutboxMessage else "m.consumer"
    rows = fetch_rows(
        connection,
        f"SELECT m.{sql.key}, {consumer}, COUNT(*) OVER () FROM ({heads.text}) h"
        f" JOIN {name} m ON m.id = h.id ORDER BY m.id LIMIT {shown:d}",
        heads.parameters,
    )
    return rows[0][2] if rows else 0, [(key, consumer) for key, consumer, _ in rows]


def count_quarantined(
    connection: BaseDatabaseWrapper, labels: Sequence[str], most: int
) -> list[tuple[str, str, int]]:
    """Return context, reason and count of quarantined messages, at most ``most`` + 1 of a context."""
    sql = dialect(connection)
    counts = [
        _Rows(
            "SELECT m.reason, COUNT(*) AS total FROM"
            f" (SELECT m.reason FROM {QUARANTINE} m{sql.forced_index(QUARANTINE)}"
            f" WHERE {_IN_CONTEXT} AND m.state = 'quarantined'"
            f" ORDER BY m.context LIMIT {most + 1:d}) m GROUP BY m.reason",
            [label, label],
        )
        for label in labels
    ]
    found = _union(connection, counts)
    return sorted((labels[place], reason, count) for place, reason, count in found)


def creation_times(
    connection: BaseDatabaseWrapper, model: type[models.Model], ids: Sequence[int]
) -> list[tuple[int, Any]]:
    """Return the ids of rows of a queue, and when each was recorded or received."""
    sql = dialect(connection)
    source = (
        f"SELECT id, recorded_at FROM {OUTBOX} WHERE id {sql.among}"
        if model is OutboxMessage
        else f"SELECT d.id, m.received_at FROM {table(model)} d"
        f" JOIN {INBOX} m ON m.id = d.message_id WHERE d.id {sql.among}"
    )
    return [(id_, stamp) for id_, stamp in fetch_rows(connection, source, [sql.members(ids)])]
