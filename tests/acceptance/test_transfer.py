"""Contexts go to databases of their own while orders come in, with real processes."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.conftest import Processes
from tests.acceptance.orders import (
    NORTHWIND,
    Orders,
    assert_all_is_well,
    needs_northwind,
    read_orders,
    write_orders,
    write_steps,
)
from tests.acceptance.store import Store, beside, execute_alone

pytestmark = pytest.mark.hand_over

KEYS = 3
STEPS = (
    "after_begin",
    "after_chunk",
    "after_copy",
    "after_pause",
    "before_close",
    "after_close",
    "before_finish",
    "after_finish",
    "before_open",
    "after_open",
)


@dataclass(frozen=True)
class Apart(Store):
    """A project with two contexts on databases of their own; each table is read where it lives."""

    shipping: Store
    depot: Store

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query, from the database of the context it is about."""
        for name in ("shipping", "depot"):
            if f" {name}_" in sql:
                return getattr(self, name).query(sql)
        return super().query(sql)

    def unfinished(self) -> int:
        """Return how many messages and deliveries are left over, on all three."""
        return super().unfinished() + self.shipping.unfinished() + self.depot.unfinished()


@pytest.fixture
def apart(processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Apart]:
    """The database of the processes, and two empty ones; an outage is tried again soon."""
    monkeypatch.setenv("OUTBOX_INBOX_BACKOFF_FIRST", "100ms")
    monkeypatch.setenv("OUTBOX_INBOX_BACKOFF_MAXIMUM", "500ms")
    url = processes.store.url
    if url.startswith("sqlite"):
        yield Apart(url, *(Store(f"sqlite:///{tmp_path}/{name}.sqlite3") for name in "ab"))
        processes.end()
    else:
        with apart_on(url, processes) as found:
            yield found


@contextmanager
def apart_on(server: str, processes: Processes) -> Iterator[Apart]:
    """Yield the database of the processes, and two empty ones on a PostgreSQL server."""
    names = [f"apart_outbox_inbox_{uuid4().hex}" for _ in range(2)]
    for name in names:
        execute_alone(server, f"CREATE DATABASE {name}")
    try:
        yield Apart(processes.store.url, *(beside(server, name) for name in names))
    finally:
        processes.end()
        for name in names:
            execute_alone(server, f"DROP DATABASE {name} WITH (FORCE)")


def deployed(apart: Apart) -> dict[str, str]:
    """Return the variables with which shipping and the depot live on databases of their own."""
    return {"SHIPPING_DATABASE_URL": apart.shipping.url, "DEPOT_DATABASE_URL": apart.depot.url}


def portion(folder: Path, count: int) -> Orders:
    """Write the first so many orders."""
    (folder / str(count)).mkdir()
    return write_orders(folder / str(count), count)


def transfer(processes: Processes, context: str, new: dict[str, str], *more: str) -> str:
    """Hand a context over to the database that has its name."""
    processes.succeed("manage.py", "migrate", "--database", context, "--run-syncdb", **new)
    return processes.succeed(
        "manage.py", "transfer_context", context, "--to", context, *more, **new
    )


def stop(worker: subprocess.Popen[str]) -> str:
    """Let a worker end, and return what it printed; it must end well."""
    worker.send_signal(signal.SIGTERM)
    printed, _ = worker.communicate(timeout=60)
    assert worker.returncode == 0, printed
    return printed


def finish(processes: Processes, apart: Apart, orders: Orders, steps: int) -> None:
    """Run on with the new settings until all is quiet, and compare the figures."""
    new = deployed(apart)
    worker = processes.start_worker(**new)
    processes.succeed(*write_steps(KEYS, steps), **new)
    processes.succeed(*orders.command, **new)
    stop(worker)
    for context in ("shipping", "depot"):
        command = ("manage.py", "transfer_context", context, "--to", context, "--clean")
        processes.succeed(*command, **new)
    assert_all_is_well(apart, orders, KEYS, steps)


def test_orders_go_on_while_contexts_move_out(
    processes: Processes, apart: Apart, tmp_path: Path
) -> None:
    """Old workers run through the transfer of two contexts: the figures are those of a quiet day."""
    new = deployed(apart)
    worker = processes.start_worker()
    processes.succeed(*write_steps(KEYS, 3))
    processes.succeed(*portion(tmp_path, 12).command)
    placing = processes.start(*portion(tmp_path, 24).command)
    writing = processes.start(*write_steps(KEYS, 8))
    found = json.loads(_last(transfer(processes, "shipping", new, "--format", "json")))
    assert (found["state"], found["differences"]) == ("open", 0)
    transfer(processes, "depot", new)
    for process in (placing, writing):
        process.communicate(timeout=120)  # whether it was refused or faster is up to chance
    status, printed = processes.run(*portion(tmp_path, 36).command)
    # The orders are placed; what shipping has to hear of them waits in the outbox of ordering.
    assert (status, "not finished in the outbox of ordering" in printed) == (3, True), printed
    stop(worker)
    finish(processes, apart, portion(tmp_path, 48), steps=10)


def _last(printed: str) -> str:
    """Return the JSON document at the end of what a process printed."""
    return printed[printed.index("{") :]


def test_a_hand_over_that_is_killed_at_every_step(
    processes: Processes, apart: Apart, tmp_path: Path
) -> None:
    """Kill -9 at each step in turn, while a worker and a writer go on: the last call makes it good."""
    new = deployed(apart)
    processes.succeed(*write_steps(KEYS, 2))
    worker = processes.start_worker()
    writer = processes.start(*write_steps(KEYS, 40))
    processes.succeed("manage.py", "migrate", "--database", "depot", "--run-syncdb", **new)
    command = ("manage.py", "transfer_context", "depot", "--to", "depot")
    for point in STEPS:
        status, printed = processes.run(*command, faults=f"transfer.{point}:kill@1", **new)
        assert status == -signal.SIGKILL, printed
    processes.succeed(*command, **new)
    writer.communicate(timeout=120)
    stop(worker)
    transfer(processes, "shipping", new)
    finish(processes, apart, portion(tmp_path, 8), steps=40)


@pytest.mark.sqlite
def test_contexts_move_from_sqlite_to_postgresql(
    processes: Processes, tmp_path: Path, postgres_url: str
) -> None:
    """Values, ids and states are the same on a database of another vendor, and work goes on there."""
    with apart_on(postgres_url, processes) as apart:
        processes.succeed(*write_steps(KEYS, 3))
        processes.succeed(*portion(tmp_path, 8).command)
        processes.succeed("manage.py", "drain_outbox")
        for context in ("shipping", "depot"):
            transfer(processes, context, deployed(apart))
        finish(processes, apart, portion(tmp_path, 12), steps=5)


@pytest.mark.slow
@needs_northwind
def test_the_real_orders_survive_a_hand_over(processes: Processes, apart: Apart) -> None:
    """The Northwind day with shipping moved out in the middle: the known figures."""
    new = deployed(apart)
    orders = read_orders(*NORTHWIND)
    worker = processes.start_worker()
    placing = processes.start(*orders.command)
    transfer(processes, "shipping", new)
    placing.communicate(timeout=120)
    transfer(processes, "depot", new)
    stop(worker)
    finish(processes, apart, orders, steps=5)
