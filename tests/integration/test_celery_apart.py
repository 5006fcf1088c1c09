"""Two deployments that share one broker for Celery: each works for its own contexts only."""

import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from tests import services
from tests.acceptance.apart import Apart, RedisBetween, deployed_apart
from tests.acceptance.conftest import Processes, new_store, new_stores  # noqa: F401  fixtures
from tests.acceptance.orders import write_orders
from tests.acceptance.store import Store, Stores
from tests.conftest import need
from tests.support.brokers import RedisServer
from tests.support.movers import eventually

KEYS, STEPS = 3, 2


@pytest.fixture
def apart(
    new_stores: Callable[[], Stores],  # noqa: F811
    tmp_path: Path,
) -> Iterator[Apart]:
    """Two deployments; Celery and the contracts use two databases of the same Redis."""
    need(services.REDIS_SERVER)
    with RedisServer() as server:
        celery = server.url.removesuffix("/0") + "/1"
        between = RedisBetween(server.url)
        found = deployed_apart(new_stores(), between, tmp_path, CELERY_BROKER_URL=celery)
        yield found
        found.end()


def start_celery(processes: Processes, folder: Path) -> Path:
    """Start a worker with a beat of its own; return its log as soon as it takes tasks."""
    log = folder / f"celery-{processes.settings['CONTEXTS']}.log"
    plain = ("--pool=solo", "--without-mingle", "--without-gossip", "--beat")
    schedule = str(log.with_suffix(".schedule"))
    processes.start(
        *("-m", "celery", "-A", "project", "worker", *plain, "-s", schedule),
        *("-n", f"{log.stem}@test", "-l", "INFO", "-f", str(log)),
        output=folder / "celery.out",
    )
    eventually(lambda: log.exists() and "ready." in log.read_text(), "the worker is ready")
    return log


CHILD = """
import fcntl, sys, threading
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
threading.Event().wait()
"""
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"


def test_nothing_that_a_process_has_started_outlives_a_test(
    new_store: Callable[[], Store],  # noqa: F811
    tmp_path: Path,
) -> None:
    """What is killed at the end takes its children along, as the beat within a worker."""
    processes, said, lock = Processes(new_store()), tmp_path / "said", tmp_path / "lock"
    processes.start("-c", PARENT, CHILD, str(lock), output=said)
    eventually(lambda: said.read_text() == "held\n", "the child is at work")
    processes.end()
    with lock.open() as file:
        eventually(lambda: free(file), "the child is gone")


def free(file: IO[str]) -> bool:
    """Return whether the lock of a file is free."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def test_no_worker_gets_the_tasks_of_the_other_deployment(apart: Apart, tmp_path: Path) -> None:
    """Everything is done, and no task failed for a context that its worker does not have."""
    orders = write_orders(tmp_path, 6)
    logs = [start_celery(each, tmp_path) for each in apart.deployments]
    apart.ordering.succeed("-m", "tests.acceptance.steps", str(KEYS), str(STEPS))
    apart.place(orders)
    apart.wait_until_done(orders, KEYS, STEPS)
    for log in logs:
        assert "succeeded in" in log.read_text()
        assert "NotAContext" not in log.read_text()
