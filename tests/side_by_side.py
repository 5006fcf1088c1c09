"""Runs of pytest side by side: progress while they run, the whole output of those that fail at the end.

The tests wait most of the time, for processes, servers and locks. Each job is a pytest of its own, with
databases, servers and files of its own, so that nothing is shared but the machine.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from urllib.parse import urlsplit, urlunsplit
from xml.etree import ElementTree

from tests import services

ROOT = Path(__file__).resolve().parent.parent
NOTHING_COLLECTED = 5
PROGRESS = 30.0  # seconds between two lines that say how far everybody is
PATIENCE = 60  # seconds for a pytest that was interrupted to remove its databases and servers
PERCENT = re.compile(r"\[ *(\d+)%\]\s*$")


@dataclass
class Job:
    """One pytest.

    Fields:
        database: the name of the default database's vendor, for people.
        name: which part of the tests, for people; empty: all that were asked for.
        environment: what is added to ours.
        arguments: pytest's.
        status: its exit status; None: it has not ended.
        output: what it said.
        passed, failed, skipped: its counts.
    """

    database: str
    name: str
    environment: dict[str, str]
    arguments: Sequence[str]
    status: int | None = None
    output: list[str] = field(default_factory=list)
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    process: subprocess.Popen[str] | None = None

    def __str__(self) -> str:
        return f"{self.database} {self.name}".strip()

    @property
    def well(self) -> bool:
        """Whether it has ended, and nothing failed."""
        return self.status in {0, NOTHING_COLLECTED}

    @property
    def percent(self) -> str:
        """How far it is, by its own account."""
        found = [match[1] for line in self.output[-40:] if (match := PERCENT.search(line))]
        return f"{found[-1]} %" if found else "0 %"

    def run(self, *, captured: bool = True, **more: str) -> None:
        """Run it to its end, on the terminal or captured; more environment may be given."""
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pytest", f"--junit-xml={report}", *self.arguments],
                cwd=ROOT,
                env=os.environ | self.environment | more,
                text=True,
                errors="replace",
                # Else Ctrl-C would hit it twice: by the terminal, and by us.
                **(CAPTURED if captured else {}),
            )
            for line in self.process.stdout or ():
                self.output.append(line)
            self.status = self.process.wait()
            if report.exists():
                self.passed, self.failed, self.skipped = count(report)

    def interrupt(self) -> None:
        """Have it end as by Ctrl-C."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def closing(self) -> str:
        """Return what it said at the end: what was skipped, why, and what failed."""
        begins = (n for n, line in enumerate(self.output) if "short test summary info" in line)
        return "".join(self.output[next(begins, -1) :])


CAPTURED = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.STDOUT,
    "start_new_session": True,
}


def count(report: Path) -> tuple[int, int, int]:
    """Return how many tests passed, failed and were skipped, from pytest's report."""
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    tests = failed = skipped = 0
    for suite in suites:
        tests += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return tests - failed - skipped, failed, skipped


def redis_urls(places: int) -> Iterator[str]:
    """Yield a database of the tests' Redis for each place, as they empty the one they use.

    Raises:
        SystemExit: there are not as many.
    """
    parts = urlsplit(services.REDIS.url)
    number = int(parts.path.strip("/") or 0)
    if number < places - 1:
        raise SystemExit(
            f"{services.REDIS.variable} names database {number} of Redis; {places} runs side by side "
            f"empty {places}: name {places - 1} or a higher one, or run in turn (--in-turn)."
        )
    for place in range(places):
        yield urlunsplit(parts._replace(path=f"/{number - place}"))


class SideBySide:
    """Runs jobs, some at a time.

    Arguments:
        jobs: in the order in which they begin.
        places: how many at a time.
        first_failure: end with the first job that fails.
    """

    def __init__(self, jobs: Sequence[Job], places: int, *, first_failure: bool = False) -> None:
        self._jobs = jobs
        self._places = places
        self._first_failure = first_failure
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._redis: SimpleQueue[str] = SimpleQueue()
        for url in redis_urls(places):
            self._redis.put(url)

    def run(self) -> None:
        """Run all; print how far they are, and at the end what those that failed have said.

        Raises:
            KeyboardInterrupt: after every job has cleaned up.
        """
        with ThreadPoolExecutor(self._places) as pool:
            futures = {pool.submit(self._run, job): job for job in self._jobs}
            try:
                self._watch(futures)
            except KeyboardInterrupt:
                self._end()
                raise
            finally:
                self._tell_failures()

    def _run(self, job: Job) -> None:
        if not self._ended.is_set():
            url = self._redis.get()
            try:
                job.run(**{services.REDIS.variable: url})
            finally:
                self._redis.put(url)

    def _watch(self, futures: dict[Future[None], Job]) -> None:
        open_ = set(futures)
        while open_:
            done, open_ = wait(open_, PROGRESS, FIRST_COMPLETED)
            for future in done:
                future.result()
                self._tell_end(futures[future])
            if not done:
                self._tell_progress()

    def _end(self) -> None:
        self._ended.set()
        for job in self._jobs:
            job.interrupt()
        deadline = time.monotonic() + PATIENCE
        for job in self._jobs:
            if job.process is not None:
                try:
                    job.process.wait(max(0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    job.process.kill()

    def _tell_progress(self) -> None:
        running = [job for job in self._jobs if job.process is not None and job.status is None]
        waiting = sum(job.process is None for job in self._jobs)
        far = ", ".join(f"{job} {job.percent}" for job in running)
        self._say(f"{far}; {waiting} more to come")

    def _tell_end(self, job: Job) -> None:
        if job.status is None:
            return
        self._say(f"{job}: {'ended well' if job.well else f'FAILED (exit status {job.status})'}")
        print(job.closing(), flush=True)
        if self._first_failure and not job.well:
            self._end()

    def _say(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        print(f"[{minutes}:{seconds:02}] {text}", flush=True)

    def _tell_failures(self) -> None:
        for job in self._jobs:
            if job.status is not None and not job.well:
                print(f"\n{f' {job} ':=^100}\n{''.join(job.output)}", flush=True)
