"""kill -9 of the command that rebuilds a read model, again and again, while orders keep coming."""

import signal
from pathlib import Path

import pytest

from tests.acceptance.conftest import Processes
from tests.acceptance.orders import write_orders

pytestmark = pytest.mark.catch_up

ORDERS = 60


def test_a_rebuild_that_is_killed_again_and_again_equals_the_live_board(
    processes: Processes, tmp_path: Path
) -> None:
    """At each of its steps; the live board is what it was until the new one takes its place."""
    orders = write_orders(tmp_path, ORDERS)
    processes.succeed(*orders.command)
    board = "SELECT country, orders, revenue FROM ordering_countryboard ORDER BY country"
    wanted = processes.store.query(board)
    assert sum(row[1] for row in wanted) == ORDERS

    command = ("manage.py", "rebuild_projection", "country_board")
    for point in (
        "rebuild.after_begin",
        "project.after_read",
        "project.before_apply",
        "project.after_apply",
        "project.before_commit",
        "project.after_commit",
        "rebuild.before_swap",
    ):
        assert processes.run(*command, faults=f"{point}:kill@1")[0] == -signal.SIGKILL
        assert processes.store.query(board) == wanted
    # What is wrong by now is right after the rebuild, and not before.
    processes.store.execute("UPDATE ordering_countryboard SET orders = 7")
    assert "Rebuilt country_board" in processes.succeed(*command)
    assert processes.store.query(board) == wanted
