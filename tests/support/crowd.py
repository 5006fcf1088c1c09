"""Tables that are full, in several shapes, and how the database finds something in them."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, models, transaction

from outbox_inbox.models import (
    Delivery,
    InboxMessage,
    OutboxMessage,
    Partition,
    QuarantinedMessage,
    StoredEvent,
)
from outbox_inbox.queues.partitions import ensure_partitions

MANY = {"postgresql": 100_000, "sqlite": 500, "mysql": 20_000}
QUEUED = (OutboxMessage, Delivery)
FILLED = (Delivery, InboxMessage, OutboxMessage, QuarantinedMessage, StoredEvent)

# Rows 1 to N are finished, but N holds the key "parked"; N to 2N wait behind it; then some are due
# now, and some in the year 2100.
STATE = (
    "CASE WHEN n < {n} THEN '{finished}' WHEN n = {n} THEN 'dead' WHEN n <= 2 * {n} THEN 'waiting'"
    " ELSE '{idle}' END"
)
KEY = "CASE WHEN n >= {n} AND n <= 2 * {n} THEN 'parked' ELSE {k_n} END"
K_N = {"postgresql": "'k' || n", "sqlite": "'k' || n", "mysql": "CONCAT('k', n)"}
DUE = {
    "postgresql": "CASE WHEN n > 2 * {n} + 50 THEN timestamptz '2100-01-01' END",
    "sqlite": "CASE WHEN n > 2 * {n} + 50 THEN '2100-01-01 00:00:00' END",
    "mysql": "CASE WHEN n > 2 * {n} + 50 THEN '2100-01-01 00:00:00' END",
}
EMPTIED = {
    "postgresql": "CASE WHEN n <= 2 * {n} THEN timestamptz '2030-02-01' END",
    "sqlite": "CASE WHEN n <= 2 * {n} THEN '2030-02-01 00:00:00' END",
    "mysql": "CASE WHEN n <= 2 * {n} THEN '2030-02-01 00:00:00' END",
}
ID = {
    "postgresql": "md5(n::text)::uuid",
    "sqlite": "printf('%032d', n)",
    "mysql": "LPAD(n, 32, '0')",
}
STREAM = {"postgresql": "'s' || (n % 100)", "sqlite": "'s' || (n % 100)"}
VERSION = {"mysql": "n DIV 100 + 1"}
FINGERPRINT = {"mysql": "CONCAT('f', n)"}
SERIES = (
    "INSERT INTO {table} ({columns}) WITH RECURSIVE g (n) AS"
    " (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 2 * {n} + 100) SELECT {values} FROM g"
)
# One index of MariaDB and MySQL does the work of several partial ones.
PLAIN = {"pending": "state", "ready": "state", "due": "state", "dead": "state",
         "full": "full_rows",
         "waiting": "state_key", "holds": "held_key", "quarantined": "quarantine_state"}  # fmt: skip


def index_here(name: str) -> str:
    """Return the index that does the work of a partial one on this database."""
    stem, _, suffix = name.rpartition("_")
    return f"{stem}_{PLAIN.get(suffix, suffix)}" if connection.vendor == "mysql" else name


def fill(model: type[models.Model], **values: str) -> None:
    """Insert a row for each number, with an expression for each column."""
    facts = {
        "n": MANY[connection.vendor],
        "finished": "sent" if model is OutboxMessage else "done",
        "idle": "pending" if model is OutboxMessage else "ready",
        "k_n": K_N[connection.vendor],
    }
    columns = {name: value.format(**facts) for name, value in values.items()}
    sql = SERIES.format(
        n=facts["n"],
        table=model._meta.db_table,
        columns=", ".join(map(connection.ops.quote_name, columns)),
        values=", ".join(columns.values()),
    )
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            limit = "max_recursive_iterations"
            if not connection.mysql_is_mariadb:
                limit = "cte_max_recursion_depth"
            cursor.execute(f"SET SESSION {limit} = 1000000")
        cursor.execute(sql)


def fill_all(**queue_columns: str) -> None:
    """Fill the queues and a stream, with other expressions for some columns of the queues."""
    made = ID[connection.vendor]
    message = {
        "context": "'shop'",
        "message_id": made,
        "type": "'shop.Noted'",
        "schema_version": "1",
        "payload": "'{{}}'",
        "headers": "'{{}}'",
        "correlation_id": made,
        "recorded_at": "'2030-01-01 00:00:00'",
    }
    moved = {**message, "hops": "0", "key_hash": "n"}
    queued = {
        "context": "'shop'",
        "partition": "0",
        "key": KEY,
        "state": STATE,
        "attempts": "0",
        "holds": "n = {n}",
        "error": "''",
        "due_at": DUE[connection.vendor],
        **queue_columns,
    }
    fill(OutboxMessage, **{**moved, **queued, "kind": "'domain'"})
    fill(
        InboxMessage,
        **moved,
        id="n",
        source="'shop'",
        received_at="'2030-01-01 00:00:00'",
        emptied_at=EMPTIED[connection.vendor],
    )
    fill(Delivery, **queued, message_id="n", consumer="'note'")
    fill(
        QuarantinedMessage,
        context="'shop'",
        reason="'malformed'",
        error="''",
        source="''",
        message_id="''",
        type="''",
        attributes="'{{}}'",
        data="''",
        size="0",
        fingerprint=FINGERPRINT.get(connection.vendor, "'f' || n"),
        received_at="'2030-01-01 00:00:00'",
        state="CASE WHEN n <= 2 * {n} THEN 'released' ELSE 'quarantined' END",
        note="''",
    )
    fill(
        StoredEvent,
        **message,
        kind="'domain'",
        key_hash="n",
        hops="0",
        in_outbox="TRUE",
        stream=STREAM.get(connection.vendor, "CONCAT('s', n % 100)"),
        version=VERSION.get(connection.vendor, "n / 100 + 1"),
    )
    analyze()


def analyze() -> None:
    """Have the database count what is in the tables."""
    tables = ", ".join(model._meta.db_table for model in FILLED)
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE TABLE {tables}" if connection.vendor == "mysql" else "ANALYZE")
        if connection.vendor == "mysql":
            cursor.fetchall()


BACKLOG = {"state": "'{idle}'", "holds": "FALSE", "due_at": "NULL", "key": "{k_n}"}
SHAPES = {
    "backlog": BACKLOG,
    "worked off": BACKLOG,
    "scheduled": {**BACKLOG, "due_at": "'2100-01-01 00:00:00'"},
    "backlog of the last partition": {**BACKLOG, "partition": "7"},
    "scheduled in the last partition": {
        **BACKLOG,
        "partition": "7",
        "due_at": "'2100-01-01 00:00:00'",
    },
}


@contextmanager
def crowd(shape: str) -> Iterator[None]:
    """Fill the tables of the default database, and empty them again.

    By default ("finished") most rows are finished or wait. In a "backlog" nearly all are to be moved,
    and the statistics say so; in one that is "worked off" they still do, and 100 are left. Those that
    are "scheduled" are for the year 2100.
    """
    # What earlier tests have deleted is in the indexes until a vacuum comes: the first statement that
    # meets it would read a page for each of those rows.
    _empty()
    with transaction.atomic():
        ensure_partitions("default")
        fill_all(**SHAPES.get(shape, {}))
    if shape == "worked off":
        work_off()
    yield
    _empty()
    analyze()


def _empty() -> None:
    """Empty the tables; on PostgreSQL nothing is left in their indexes either."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            tables = ", ".join(model._meta.db_table for model in FILLED)
            cursor.execute(f"TRUNCATE {tables} CASCADE")
            cursor.execute(f"VACUUM {Partition._meta.db_table}")
        else:
            for model in FILLED:
                model._base_manager.all()._raw_delete("default")


def work_off() -> None:
    """Finish all but the last 100 rows of both queues; the statistics stay as they are."""
    for model, state in ((OutboxMessage, "sent"), (Delivery, "done")):
        first = model._base_manager.order_by("id").values_list("id", flat=True)[0]
        done = model._base_manager.filter(id__lt=first + 2 * MANY[connection.vendor])
        done.update(state=state)


class Explained(Exception):
    """Carries the plan of a statement that was not run."""


class Plan:
    """How the database would run a statement, or has run it."""

    def __init__(self, found: list[tuple[Any, ...]]) -> None:
        self.found = found

    @property
    def text(self) -> str:
        """Everything it says."""
        return " ".join(str(part) for row in self.found for part in row)

    def uses(self, name: str) -> bool:
        """Return whether an index is used."""
        # MariaDB does not say from which index it took a maximum before it ran anything.
        return name in self.text or "optimized away" in self.text

    @property
    def scanned(self) -> set[str]:
        """The tables that are read from one end to the other."""
        if connection.vendor == "sqlite":
            return {row[3].split()[1] for row in self.found if row[3].startswith("SCAN ")}
        if connection.vendor == "mysql":
            # It names a table by its alias, which is the same in all of the statements.
            aliases = {"m": "all", "h": "all", "d": "all", "i": "all", "o": "all"}
            # MySQL has a column more, and a row for the table that is written to.
            access = 3 if connection.mysql_is_mariadb else 4
            plan = [row for row in self.found if row[1] != "INSERT"]
            read = {row[2] for row in plan if row[access] in {"ALL", "index"}}
            return {aliases.get(name, name) for name in read}
        return {node["Relation Name"] for node in self.nodes() if node["Node Type"] == "Seq Scan"}

    @property
    def pages(self) -> int:
        """How many pages it has read, from the cache or not; PostgreSQL only."""
        top = self.found[0][0][0]["Plan"]
        return top["Shared Hit Blocks"] + top["Shared Read Blocks"]

    def nodes(self) -> Iterator[dict[str, Any]]:
        """Yield the nodes of a plan of PostgreSQL."""
        left = [self.found[0][0][0]["Plan"]]
        while left:
            node = left.pop()
            yield node
            left += node.get("Plans", [])


def _asked(*, run: bool) -> str:
    if connection.vendor == "postgresql":
        return f"EXPLAIN (FORMAT JSON{', ANALYZE, BUFFERS' if run else ''}) "
    if connection.vendor == "mysql":
        return "EXPLAIN " if connection.mysql_is_mariadb else "EXPLAIN FORMAT=TRADITIONAL "
    return "EXPLAIN QUERY PLAN "


def _parsed(found: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(json.loads(row[0]),) if isinstance(row[0], str) else row for row in found]


def explain(function: Callable[..., Any], *arguments: Any, run: bool = False) -> Plan:
    """Return the plan of the statement that a function of `statements` would send."""

    def wrap(execute, sql, parameters, many, context):
        execute(_asked(run=run) + sql, parameters, many, context)
        raise Explained(_parsed(context["cursor"].fetchall()))

    try:
        with transaction.atomic(), connection.execute_wrapper(wrap):
            function(*arguments)
    except Explained as explained:
        return Plan(explained.args[0])
    raise AssertionError("no statement was sent")


def explain_all(function: Callable[..., Any], *arguments: Any, **options: Any) -> list[Plan]:
    """Run a function that reads; return the plan of each statement that it sends."""
    plans: list[Plan] = []

    def wrap(execute, sql, parameters, many, context):
        execute(_asked(run=True) + sql, parameters, many, context)
        plans.append(Plan(_parsed(context["cursor"].fetchall())))
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(wrap):
        function(*arguments, **options)
    return plans


def rows_read() -> int:
    """Return how many rows this session has read so far."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%%'", [])
        return sum(int(count) for _, count in cursor.fetchall())
