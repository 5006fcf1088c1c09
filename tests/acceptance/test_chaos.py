"""Several processes at once, killed, frozen and cut off at random moments."""

import signal
from pathlib import Path

import pytest

from outbox_inbox.conf.faults import POINTS
from tests.acceptance.chaos import Command, kill_at_random
from tests.acceptance.conftest import WORKER, Processes
from tests.acceptance.orders import (
    NORTHWIND,
    Orders,
    assert_all_is_well,
    read_orders,
    write_orders,
    write_steps,
)

KEYS = 5


def victims_of(processes: Processes, orders: Orders, steps: int) -> list[Command]:
    """Return two workers and two writers, to be killed."""
    commands = WORKER, WORKER, orders.command, write_steps(KEYS, steps)
    return [Command(processes, arguments) for arguments in commands]


def finish(processes: Processes, orders: Orders, steps: int) -> None:
    """Let everything come to its end without further faults, and compare the figures."""
    processes.succeed(*write_steps(KEYS, steps))
    processes.succeed(*orders.command)
    assert_all_is_well(processes.store, orders, KEYS, steps)


def test_kills_at_random_moments_lose_and_repeat_nothing(
    processes: Processes, tmp_path: Path
) -> None:
    """Two workers and two writers, killed twelve times: the figures are those of a quiet day."""
    orders, steps = write_orders(tmp_path, 60), 10
    kill_at_random(victims_of(processes, orders, steps), kills=12, longest=2.5, seed=5)
    finish(processes, orders, steps)


def test_a_worker_ends_in_order_when_it_is_told_to(processes: Processes) -> None:
    """SIGTERM lets a worker finish its batch, and end with exit status 0."""
    worker = processes.start_worker()
    processes.succeed(*write_steps(KEYS, 1))
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=60)
    assert worker.returncode == 0


@pytest.mark.postgres
@pytest.mark.mariadb
@pytest.mark.mysql
def test_connections_that_are_cut_lose_and_repeat_nothing(
    processes: Processes, tmp_path: Path
) -> None:
    """Database connections cut at random steps fail no message: the worker connects again."""
    orders, steps = write_orders(tmp_path, 12), 3
    processes.succeed(*write_steps(KEYS, steps))
    faults = ",".join(f"{point}:disconnect@p0.02" for point in sorted(POINTS))
    worker = processes.start_worker(faults=f"{faults},seed=5")
    processes.succeed(*orders.command)
    worker.send_signal(signal.SIGTERM)
    printed, _ = worker.communicate(timeout=60)
    assert worker.returncode == 0, printed
    finish(processes, orders, steps)


@pytest.mark.postgres
@pytest.mark.mariadb
@pytest.mark.mysql
def test_a_frozen_worker_is_thrown_out(processes: Processes, tmp_path: Path) -> None:
    """A worker that freezes with a partition's lock blocks no other for longer than FROZEN_AFTER.

    When it goes on it finds its connection gone, and does no harm.
    """
    orders, steps = write_orders(tmp_path, 8), 2
    processes.succeed(*write_steps(KEYS, steps))
    limits = {"OUTBOX_INBOX_FROZEN_AFTER": "2s", "OUTBOX_INBOX_PUBLISH_TIMEOUT": "1s"}
    frozen = processes.start_worker(faults="dispatch.after_handler:stop@2", **limits)
    processes.succeed(*orders.command, **limits)
    assert_all_is_well(processes.store, orders, KEYS, steps)
    frozen.send_signal(signal.SIGCONT)
    frozen.send_signal(signal.SIGTERM)
    frozen.communicate(timeout=60)
    assert_all_is_well(processes.store, orders, KEYS, steps)


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(5))
def test_the_real_orders_survive_a_hundred_kills(processes: Processes, round_: int) -> None:
    """The Northwind day with a hundred kills, at random moments and at every step."""
    orders, steps = read_orders(*NORTHWIND), 40
    points = sorted(POINTS)
    kill_at_random(
        victims_of(processes, orders, steps),
        kills=100,
        longest=3,
        seed=round_,
        faults=lambda kill: f"{points[kill % len(points)]}:kill@{kill % 7 + 1}",
    )
    finish(processes, orders, steps)
