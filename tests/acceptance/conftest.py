"""Real processes of the real project, each test on a database of its own."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.acceptance.orders")  # so that a difference is shown

from tests.acceptance.store import Store, Stores, copies_of  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
MEMORY = Path("/dev/shm")  # noqa: S108  the folder made in it is ours alone
WORKER = ("manage.py", "run_contexts", "--interval", "0.05")
PATIENCE = 120  # seconds after which a process counts as hanging


class Processes:
    """Starts processes of the project on one database, and ends those that are left.

    Arguments:
        settings: further environment variables of all of them.
    """

    def __init__(self, store: Store, **settings: str) -> None:
        self.store = store
        self.settings = settings
        self._running: list[subprocess.Popen[str]] = []

    def start(
        self,
        *arguments: str,
        faults: str = "",
        output: Path | None = None,
        **settings: str,
    ) -> subprocess.Popen[str]:
        """Start ``python …`` with the faults armed.

        Arguments:
            output: the file that what it prints is added to; by default it is there to be read,
                and a process that prints a lot without being read stands still.
        """
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "tests.acceptance.settings",
            "DATABASE_URL": self.store.url,
            "OUTBOX_INBOX_FAULTS": faults,
            **self.settings,
            **settings,
        }
        with nullcontext(subprocess.PIPE) if output is None else output.open("a") as stdout:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=environment,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def start_worker(self, *, faults: str = "", **settings: str) -> subprocess.Popen[str]:
        """Start a worker for all contexts; return when it runs: from then on it takes signals."""
        worker = self.start(*WORKER, faults=faults, **settings)
        assert worker.stdout is not None
        printed = []
        for line in worker.stdout:
            if line.startswith("Running"):
                return worker
            printed.append(line)
        raise AssertionError("".join(printed))

    def run(self, *arguments: str, faults: str = "", **settings: str) -> tuple[int, str]:
        """Run ``python …`` to its end; return the exit status and what it printed."""
        process = self.start(*arguments, faults=faults, **settings)
        printed, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, printed

    def succeed(self, *arguments: str, **settings: str) -> str:
        """Run ``python …`` and return what it printed; it must end well."""
        status, printed = self.run(*arguments, **settings)
        assert status == 0, printed
        return printed

    def end(self) -> None:
        """Kill what is left, and what that has started: a Celery worker has its beat as a child."""
        for process in self._running:
            # Until it has been waited for, no other process can have its number.
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._running.clear()


@contextmanager
def migrated(**settings: str) -> Iterator[Callable[[], Store]]:
    """Yield a function that makes a migrated database, of the vendor of this test run."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2**30
    folder = Path(
        tempfile.mkdtemp(prefix="outbox_inbox-acceptance-", dir=MEMORY if roomy else None)
    )
    try:
        with copies_of(os.environ.get("TEST_DATABASE") or "sqlite", folder) as (template, copy):
            migrate = ("manage.py", "migrate", "--run-syncdb", "--verbosity", "0", "--skip-checks")
            Processes(template, **settings).succeed(*migrate)

            def new() -> Store:
                store = copy()
                if store.url.startswith("mysql"):
                    Processes(store, **settings).succeed(*migrate)
                return store

            yield new
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def new_store() -> Iterator[Callable[[], Store]]:
    """Make a migrated database of its own."""
    with migrated() as copy:
        yield copy


@pytest.fixture(scope="session")
def new_stores() -> Iterator[Callable[[], Stores]]:
    """Make two databases, each with nothing but the tables of one deployment."""
    with migrated(CONTEXTS="ordering") as ordering, migrated(CONTEXTS="shipping") as shipping:
        yield lambda: Stores(ordering(), shipping())


@pytest.fixture
def processes(new_store: Callable[[], Store]) -> Iterator[Processes]:
    """Processes on a migrated database of this test's own."""
    found = Processes(new_store())
    yield found
    found.end()
