"""The real orders, through real processes: the figures that the files promise."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from tests.acceptance.conftest import Processes
from tests.acceptance.orders import (
    NORTHWIND,
    Orders,
    assert_all_is_well,
    needs_northwind,
    read_orders,
)
from tests.acceptance.store import Store

pytestmark = needs_northwind


@pytest.fixture(
    scope="module", params=["outbox", pytest.param("stream", marks=pytest.mark.catch_up)]
)
def placed(new_store: Callable[[], Store], request: pytest.FixtureRequest) -> Processes:
    """A database on which the real orders were placed and drained, from either source."""
    processes = Processes(new_store(), ORDERING_SOURCE=request.param)
    processes.succeed(
        "manage.py", "repartition"
    )  # the database was made with the outbox as the source
    processes.succeed("manage.py", "place_orders", *map(str, NORTHWIND))
    return processes


@pytest.fixture(scope="module")
def northwind() -> Orders:
    """What the files say, added up by the tests' own code."""
    return read_orders(*NORTHWIND)


def test_every_order_is_placed_shipped_and_on_the_board(
    placed: Processes, northwind: Orders
) -> None:
    """Orders, shipments and the board of countries are what the files add up to."""
    assert_all_is_well(placed.store, northwind, keys=0, steps=0)


def test_the_figures_are_the_known_ones(placed: Processes) -> None:
    """830 orders in 21 countries bring in 1265793.22."""
    board = placed.store.board()
    assert (len(board), sum(count for count, _ in board.values())) == (21, 830)
    assert sum(revenue for _, revenue in board.values()) == Decimal("1265793.22")
    assert board["USA"] == (122, Decimal("245584.64"))
    assert board["Germany"] == (122, Decimal("230284.69"))


def test_the_statistics_say_that_the_queues_are_empty(placed: Processes) -> None:
    """`queue_stats --format json` counts nothing but the time-outs of the open orders, apart."""
    printed = placed.succeed("manage.py", "queue_stats", "--format", "json")
    found = json.loads(printed)
    waiting = placed.store.counted("ordering_ordersummary")["open"]  # each until it is overdue
    assert (found["unfinished"], found["dead"], found["scheduled"]) == (0, 0, waiting)
    assert {"ordering", "shipping"} <= found["contexts"].keys()


def test_a_second_run_of_the_same_files_changes_nothing(
    placed: Processes, northwind: Orders
) -> None:
    """The order ids are the idempotency keys of the outside world."""
    messages = (
        "SELECT (SELECT COUNT(*) FROM outbox_inbox_outboxmessage),"
        " (SELECT COUNT(*) FROM outbox_inbox_storedevent)"
    )
    before = placed.store.query(messages)
    placed.succeed("manage.py", "place_orders", *map(str, NORTHWIND))
    assert placed.store.query(messages) == before
    assert_all_is_well(placed.store, northwind, keys=0, steps=0)


@pytest.mark.parametrize("name", ["short.csv", "no_such_file.csv"])
def test_a_wrong_file_stores_nothing(processes: Processes, tmp_path: Path, name: str) -> None:
    """A file that is cut off in the middle, or not there, is refused before anything is stored."""
    short = NORTHWIND[0].read_bytes()[:50_000]
    (tmp_path / "short.csv").write_bytes(short)
    status, printed = processes.run(
        "manage.py", "place_orders", str(tmp_path / name), str(NORTHWIND[1])
    )
    assert (status, name in printed) == (1, True), printed
    assert processes.store.query("SELECT COUNT(*) FROM outbox_inbox_storedevent") == [(0,)]
