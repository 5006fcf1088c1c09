"""The hot statements find what they need by an index, however full the tables are.

PostgreSQL is asked how it runs each statement beside 100,000 finished rows and 100,000 that wait
behind one key; SQLite beside a few, since it chooses without counting. MariaDB and MySQL, which have
other indexes for the same purposes, are asked beside 20,000 of each.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, models, transaction
from pytest_django import DjangoDbBlocker

from outbox_inbox.models import (
    Delivery,
    InboxMessage,
    OutboxMessage,
    Partition,
    QuarantinedMessage,
    StoredEvent,
)
from outbox_inbox.operations import QuarantineSelection, Selection, quarantined
from outbox_inbox.operations.selection import selected_rows
from outbox_inbox.queues import statements
from outbox_inbox.queues.partitions import ensure_partitions
from tests.integration.conftest import Made

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
    fill(InboxMessage, **moved, id="n", source="'shop'", received_at="'2030-01-01 00:00:00'")
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


@pytest.fixture(scope="module")
def crowded(
    request: pytest.FixtureRequest, both_databases: Made, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """Fill the tables once, and empty them again.

    By default most rows are finished or wait. In a "backlog" nearly all are to be moved, and the
    statistics say so; in one that is "worked off" they still do, and 100 are left.
    """
    shape = getattr(request, "param", "finished")
    with django_db_blocker.unblock():
        with transaction.atomic():
            ensure_partitions("default")
            fill_all(**({} if shape == "finished" else BACKLOG))
        if shape == "worked off":
            work_off()
        yield
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                tables = ", ".join(model._meta.db_table for model in FILLED)
                cursor.execute(f"TRUNCATE {tables} CASCADE")
            else:
                for model in FILLED:
                    model._base_manager.all()._raw_delete("default")
        analyze()


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
        """Tell whether an index is used."""
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


def explain(function: Callable[..., Any], *arguments: Any, run: bool = False) -> Plan:
    """Return the plan of the statement that a function of `statements` would send."""
    asked = "EXPLAIN QUERY PLAN "
    if connection.vendor == "postgresql":
        asked = f"EXPLAIN (FORMAT JSON{', ANALYZE, BUFFERS' if run else ''}) "
    elif connection.vendor == "mysql":
        asked = "EXPLAIN " if connection.mysql_is_mariadb else "EXPLAIN FORMAT=TRADITIONAL "

    def wrap(execute, sql, parameters, many, context):
        execute(asked + sql, parameters, many, context)
        found = context["cursor"].fetchall()
        raise Explained(
            [(json.loads(row[0]),) if isinstance(row[0], str) else row for row in found]
        )

    try:
        with transaction.atomic(), connection.execute_wrapper(wrap):
            function(*arguments)
    except Explained as explained:
        return Plan(explained.args[0])
    raise AssertionError("no statement was sent")


def ask_for(which: str, queue: str) -> Callable[[], Any]:
    """Return a function that asks what the operators' functions ask."""

    def ask():
        (found,) = [
            each for name, each in selected_rows(Selection(context="shop"), which) if name == queue
        ]
        return list(found.values_list("pk"))

    return ask


CONTEXT = [connection, "shop", 0]
STATEMENTS = {
    "look at the outbox": (
        [statements.partition_statuses, connection, "shop", "outbox", OutboxMessage],
        ["outbox_inbox_out_pending", "outbox_inbox_out_due"],
    ),
    "look at the inbox": (
        [statements.partition_statuses, connection, "shop", "inbox", Delivery],
        ["outbox_inbox_del_ready", "outbox_inbox_del_due"],
    ),
    "look at everything": (
        [statements.all_partition_statuses, connection, ["shop", "depot"]],
        [
            "outbox_inbox_out_pending",
            "outbox_inbox_out_due",
            "outbox_inbox_del_ready",
            "outbox_inbox_del_due",
        ],
    ),
    "select pending": (
        [statements.select_pending, *CONTEXT, 500],
        ["outbox_inbox_out_pending", "outbox_inbox_out_holds"],
    ),
    "select ready": (
        [statements.select_ready, *CONTEXT, 500],
        ["outbox_inbox_del_ready", "outbox_inbox_del_holds"],
    ),
    "promote messages": (
        [statements.promote_due, connection, OutboxMessage, "shop", 0],
        ["outbox_inbox_out_due"],
    ),
    "promote deliveries": (
        [statements.promote_due, connection, Delivery, "shop", 0],
        ["outbox_inbox_del_due"],
    ),
    "release messages": (
        [statements.unblock_messages, *CONTEXT, ["k1", "k2"]],
        ["outbox_inbox_out_waiting"],
    ),
    "release deliveries": (
        [statements.unblock_deliveries, *CONTEXT, [("note", "k1"), ("note", "k2")]],
        ["outbox_inbox_del_waiting"],
    ),
    "dead messages": ([ask_for("dead", "outbox")], ["outbox_inbox_out_dead"]),
    "dead deliveries": ([ask_for("dead", "inbox")], ["outbox_inbox_del_dead"]),
    "quarantined messages": (
        [lambda: quarantined(QuarantineSelection(context="shop")).exists()],
        ["outbox_inbox_quarantined"],
    ),
    "stream version": (
        [statements.stream_version, connection, "shop", "s7"],
        ["outbox_inbox_stream"],
    ),
    "mark sent": ([statements.mark_sent, connection, [1, 2]], []),
    "mark done": ([statements.mark_done, connection, [1, 2]], []),
    "park messages": ([statements.park_followers, connection, OutboxMessage, [1, 2]], []),
    "park deliveries": ([statements.park_followers, connection, Delivery, [1, 2]], []),
    "count an attempt": ([statements.count_attempt, connection, Delivery, 1], []),
    "texts": ([statements.select_texts, connection, [1, 2]], []),
    "move to the inbox": ([statements.move_to_inbox, connection, [1, 2], "shop", "shop"], []),
    "make deliveries": (
        [
            statements.insert_deliveries,
            connection,
            [1, 2],
            8,
        ],
        [],
    ),
}


def asked(name: str) -> Callable[[], Any]:
    """Return a function that sends a statement."""
    (function, *arguments), _ = STATEMENTS[name]
    options = {"text": True} if function is statements.select_pending else {}
    return partial(function, *arguments, **options)


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_finds_its_rows_by_index(crowded, name):
    """Each partial index serves its statement, and no table is read through."""
    plan = explain(asked(name))
    assert all(plan.uses(index_here(index)) for index in STATEMENTS[name][1]), plan.text
    assert not plan.scanned & {"all", *(model._meta.db_table for model in FILLED)}, plan.text


MOVERS = [name for name in STATEMENTS if name.startswith(("look", "select", "promote", "release"))]


@pytest.mark.server
@pytest.mark.parametrize("crowded", ["backlog", "worked off"], indirect=True)
@pytest.mark.parametrize("name", MOVERS)
def test_a_backlog_does_not_hide_an_index_from_the_planner(crowded, name):
    """The movers find their rows by state in a backlog as well, and when most of it is finished."""
    plan = explain(asked(name))
    assert all(plan.uses(index_here(index)) for index in STATEMENTS[name][1]), plan.text
    assert not plan.scanned & {"all", *(model._meta.db_table for model in QUEUED)}, plan.text


def test_a_claim_finds_its_delivery_by_its_id(crowded):
    """It is the statement that is run once a message."""
    partition = Partition.objects.get(context="shop", queue="inbox", number=0)
    plan = explain(statements.claim_delivery, connection, partition.pk, UUID(int=0), 1_000, 1)
    assert Delivery._meta.db_table not in plan.scanned


def test_every_partial_index_is_asked_for():
    """An index that serves no statement is only a cost."""
    partial = {
        index.name
        for model in (*QUEUED, QuarantinedMessage)
        for index in model._meta.indexes
        if index.condition is not None
    }
    assert partial == {
        name for _, indexes in STATEMENTS.values() for name in indexes if name in partial
    }


@pytest.mark.postgres
@pytest.mark.parametrize("name", [each for each in MOVERS if each.startswith(("look", "select"))])
def test_neither_finished_nor_waiting_rows_are_read(crowded, name):
    """100,000 of either cost a poll and a claim nothing."""
    assert explain(asked(name), run=True).pages < 400


@pytest.mark.postgres
def test_a_release_reads_the_key_it_is_about(crowded):
    """Not the 100,000 that wait behind another."""
    plan = explain(statements.unblock_messages, connection, "shop", 0, ["k1"], run=True)
    assert plan.pages < 30


@pytest.mark.mariadb
@pytest.mark.mysql
@pytest.mark.parametrize("name", STATEMENTS)
def test_mariadb_and_mysql_read_few_rows_for_a_statement(crowded, name):
    """It reads the hundred that are due, what belongs to them, and none of the other 40,000."""
    with transaction.atomic():
        before = rows_read()
        asked(name)()
        read = rows_read() - before
        transaction.set_rollback(True)
    assert read < 1_000


def rows_read() -> int:
    """Return how many rows this session has read so far."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%%'", [])
        return sum(int(count) for _, count in cursor.fetchall())
