"""Contexts go to databases of their own while orders come in, with real processes."""

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest

from tests.acceptance.conftest import Processes
from tests.acceptance.orders import (
    NORTHWIND,
    Orders,
    assert_all_is_well,
    read_orders,
    write_orders,
)
from tests.acceptance.store import Store

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
    names = [f"apart_outbox_inbox_{uuid4().hex}" for _ in range(2)]
    if url.startswith("sqlite"):
        urls = [f"sqlite:///{tmp_path}/{name}.sqlite3" for name in names]
    else:
        urls = [urlunsplit(urlsplit(url)._replace(path=f"/{name}")) for name in names]
        _execute(url, "CREATE DATABASE", names)
    yield Apart(url, Store(urls[0]), Store(urls[1]))
    processes.end()
    if not url.startswith("sqlite"):
        _execute(url, "DROP DATABASE", [f"{name} WITH (FORCE)" for name in names])


def _execute(url: str, command: str, names: list[str]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for name in names:
            connection.execute(f"{command} {name}")  # type: ignore[call-overload]


def deployed(apart: Apart) -> dict[str, str]:
    """Return the variables with which shipping and the depot live on databases of their own."""
    return {"SHIPPING_DATABASE_URL": apart.shipping.url, "DEPOT_DATABASE_URL": apart.depot.url}


def place(orders: Orders) -> tuple[str, ...]:
    """Return the command that places orders."""
    return "manage.py", "place_orders", str(orders.orders), str(orders.lines)


def write_steps(steps: int) -> tuple[str, ...]:
    """Return the command that records numbered steps."""
    return "-m", "tests.acceptance.steps", str(KEYS), str(steps)


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
    """Tell a worker to end, and return what it printed; it must end well."""
    worker.send_signal(signal.SIGTERM)
    printed, _ = worker.communicate(timeout=60)
    assert worker.returncode == 0, printed
    return printed


def finish(processes: Processes, apart: Apart, orders: Orders, steps: int) -> None:
    """Run on with the new settings until all is quiet, and compare the figures."""
    new = deployed(apart)
    worker = processes.start_worker(**new)
    processes.succeed(*write_steps(steps), **new)
    processes.succeed(*place(orders), **new)
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
    processes.succeed(*write_steps(3))
    processes.succeed(*place(portion(tmp_path, 12)))
    placing = processes.start(*place(portion(tmp_path, 24)))
    writing = processes.start(*write_steps(8))
    found = json.loads(_last(transfer(processes, "shipping", new, "--format", "json")))
    assert (found["state"], found["differences"]) == ("open", 0)
    transfer(processes, "depot", new)
    for process in (placing, writing):
        process.communicate(timeout=120)  # whether it was refused or faster is up to chance
    status, printed = processes.run(*place(portion(tmp_path, 36)))
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
    processes.succeed(*write_steps(2))
    worker = processes.start_worker()
    writer = processes.start(*write_steps(40))
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
    names = [f"apart_outbox_inbox_{uuid4().hex}" for _ in range(2)]
    urls = [urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}")) for name in names]
    apart = Apart(processes.store.url, Store(urls[0]), Store(urls[1]))
    new = deployed(apart)
    _execute(postgres_url, "CREATE DATABASE", names)
    try:
        processes.succeed(*write_steps(3))
        processes.succeed(*place(portion(tmp_path, 8)))
        processes.succeed("manage.py", "drain_outbox")
        for context in ("shipping", "depot"):
            transfer(processes, context, new)
        finish(processes, apart, portion(tmp_path, 12), steps=5)
    finally:
        processes.end()
        _execute(postgres_url, "DROP DATABASE", [f"{name} WITH (FORCE)" for name in names])


@pytest.mark.slow
@pytest.mark.skipif(
    not all(file.exists() for file in NORTHWIND),
    reason="the Northwind files are not in ../shared/data",
)
def test_the_real_orders_survive_a_hand_over(processes: Processes, apart: Apart) -> None:
    """The Northwind day with shipping moved out in the middle: the known figures."""
    new = deployed(apart)
    orders = read_orders(*NORTHWIND)
    worker = processes.start_worker()
    placing = processes.start(*place(orders))
    transfer(processes, "shipping", new)
    placing.communicate(timeout=120)
    transfer(processes, "depot", new)
    stop(worker)
    finish(processes, apart, orders, steps=5)
