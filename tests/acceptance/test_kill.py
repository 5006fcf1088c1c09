"""kill -9 of real processes, at every step: nothing is lost, repeated or out of order."""

import signal
from pathlib import Path

import pytest

from outbox_inbox.conf.faults import POINTS
from tests.acceptance.conftest import Processes
from tests.acceptance.orders import assert_all_is_well, write_orders, write_steps

KEYS, STEPS, ORDERS = 3, 4, 8


RELAYING = sorted(point for point in POINTS if point.startswith(("record", "relay")))


@pytest.mark.parametrize(
    ("source", "point"),
    [
        *(pytest.param("", point, id=point) for point in sorted(POINTS)),
        *(
            pytest.param("stream", point, id=f"{point}-stream", marks=pytest.mark.postgres)
            for point in RELAYING
        ),
    ],
)
def test_a_kill_at_any_step_loses_and_repeats_nothing(
    processes: Processes, tmp_path: Path, source: str, point: str
) -> None:
    """Whatever step a process is killed at, again and again, the figures are the same at last."""
    processes.settings["ORDERING_SOURCE"] = source
    orders = write_orders(tmp_path, ORDERS)
    processes.succeed(*write_steps(KEYS, STEPS))
    killed = [processes.run(*orders.command, faults=f"{point}:kill@{hit}")[0] for hit in (1, 2)]
    assert killed[0] == -signal.SIGKILL
    processes.succeed(*orders.command)
    assert_all_is_well(processes.store, orders, KEYS, STEPS)
