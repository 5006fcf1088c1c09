"""The hot statements find what they need by an index, however full the tables are.

PostgreSQL is asked how it runs each statement beside 100,000 finished rows and 100,000 that wait
behind one key; SQLite beside a few, since it chooses without counting. MariaDB and MySQL, which have
other indexes for the same purposes, are asked beside 20,000 of each.
"""

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, connections, transaction

from outbox_inbox.models import Delivery, OutboxMessage, Partition, QuarantinedMessage
from outbox_inbox.operations import QuarantineSelection, Selection, quarantined
from outbox_inbox.operations.emptied_messages import full_messages
from outbox_inbox.operations.pruning import stretch
from outbox_inbox.operations.selection import selected_rows
from outbox_inbox.queues import statements
from outbox_inbox.queues.statements import Layout
from tests.support.crowd import FILLED, QUEUED, explain, index_here, rows_read


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
    "select groups": (
        [statements.select_groups, *CONTEXT, 500],
        ["outbox_inbox_del_ready"],
    ),
    "promote messages": (
        [statements.promote_due, connection, OutboxMessage, "shop", 0, 1_000],
        ["outbox_inbox_out_due"],
    ),
    "promote deliveries": (
        [statements.promote_due, connection, Delivery, "shop", 0, 1_000],
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
    "messages to be emptied": (
        [
            lambda: list(
                stretch(full_messages("default").filter(context__in=["shop"]), "received_at", 0)
            )
        ],
        ["outbox_inbox_in_full"],
    ),
    "stream version": (
        [statements.stream_version, connection, "shop", "s7"],
        ["outbox_inbox_stream"],
    ),
    "ready among": (
        [statements.select_ready_among, connection, [1, 2]],
        ["outbox_inbox_del_holds"],
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
            Layout("shop", "outbox", 1, 8),
        ],
        [],
    ),
}


def asked(name: str) -> Callable[[], Any]:
    """Return a function that sends a statement."""
    (function, *arguments), _ = STATEMENTS[name]
    selects = function is statements.select_pending
    options = {"largest": 6_000} if selects else {}
    return partial(function, *arguments, **options)


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_finds_its_rows_by_index(crowded, name):
    """Each partial index serves its statement, and no table is read through."""
    plan = explain(asked(name))
    assert all(plan.uses(index_here(index)) for index in STATEMENTS[name][1]), plan.text
    assert not plan.scanned & {"all", *(model._meta.db_table for model in FILLED)}, plan.text


FEW_PAGES = 400
"""More than the probes of a look take: three indexes of 32 partitions, two pages each.

One that walks through a backlog reads thousands.
"""

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
    own = connections["default"]  # as the dispatcher has it, and not Django's proxy
    plan = explain(statements.claim_delivery, own, partition.pk, UUID(int=0), 1_000, 1)
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
@pytest.mark.parametrize("crowded", ["scheduled", "scheduled in the last partition"], indirect=True)
@pytest.mark.parametrize("name", [each for each in MOVERS if each.startswith("look")])
def test_what_is_scheduled_for_later_is_not_read(crowded, name):
    """200,000 messages for the year 2100 cost a look of today nothing."""
    assert explain(asked(name), run=True).pages < FEW_PAGES


@pytest.mark.postgres
@pytest.mark.parametrize("crowded", ["backlog of the last partition"], indirect=True)
@pytest.mark.parametrize("name", [each for each in MOVERS if each.startswith("look")])
def test_a_look_at_an_empty_partition_reads_nothing_of_the_others(crowded, name):
    """200,000 messages that are to be moved at once are behind it in the index."""
    assert explain(asked(name), run=True).pages < FEW_PAGES


@pytest.mark.postgres
def test_a_release_reads_the_key_it_is_about(crowded):
    """Not the 100,000 that wait behind another."""
    plan = explain(statements.unblock_messages, connection, "shop", 0, ["k1"], run=True)
    assert plan.pages < 30


@pytest.mark.mariadb
@pytest.mark.mysql
@pytest.mark.parametrize(
    "crowded", ["backlog", "scheduled", "backlog of the last partition"], indirect=True
)
@pytest.mark.parametrize("name", [each for each in MOVERS if each.startswith("look")])
def test_mariadb_and_mysql_read_few_rows_for_a_look(crowded, name):
    """It reads none of the 40,000 that are to be moved now, or in the year 2100."""
    before = rows_read()
    asked(name)()
    assert rows_read() - before < 1_000


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
