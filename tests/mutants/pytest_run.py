"""One run of pytest in a copy of the tree: which tests failed, passed, or were not reached in time."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests import services

from .outcomes import OPTION, is_of
from .trees import Tree

GRACE = 20  # seconds for pytest to remove its databases after an interrupt


@dataclass
class Ran:
    """What a run of pytest showed.

    Fields:
        outcomes: a record of `tests.mutants.outcomes` for each phase of each test.
        timed_out: the run was ended because it took too long.
        output: what pytest printed.
        seconds: how long it took.
    """

    outcomes: list[dict[str, object]] = field(default_factory=list)
    timed_out: bool = False
    output: str = ""
    seconds: float = 0

    def state(self, name: str) -> str:
        """Return "failed", "passed", "skipped", "timeout" or "not run" for a named test."""
        mine = [each for each in self.outcomes if is_of(str(each["test"]), name)]
        found = {each["outcome"] for each in mine}
        if found & {"failed", "not collected"}:
            return "failed"
        if self.timed_out and (not mine or mine[-1] is self.outcomes[-1]):
            return "timeout"
        if "skipped" in found:
            return "skipped"
        return "passed" if "passed" in found else "not run"

    def reason(self, name: str) -> str:
        """Return why a named test failed or was skipped: the end of what pytest says."""
        found = [str(each["reason"]) for each in self.outcomes if is_of(str(each["test"]), name)]
        return next((each for each in found if each), "") or self.output[-2000:]

    def took(self, name: str) -> float:
        """Return the seconds of a named test, with what was set up for it."""
        return sum(
            float(str(each["seconds"])) for each in self.outcomes if is_of(str(each["test"]), name)
        )


def run_pytest(
    tree: Tree,
    tests: Sequence[str],
    database: str,
    *,
    patience: float,
    stop: bool = False,
    seeds: bool = True,
) -> Ran:
    """Run tests in a copy of the tree, and end what they have started.

    Arguments:
        patience: seconds, after which the run is interrupted.
        stop: end the run as soon as each of the tests has failed.
        seeds: begin with the databases of an earlier run.
    """
    with TemporaryDirectory(prefix="mutants-run-") as folder:
        file, output = Path(folder) / "outcomes", Path(folder) / "output"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", ""]
        command += ["-p", "tests.mutants.outcomes", OPTION, str(file), "--tb=short"]
        command += ["--mutants-stop"] if stop else []
        command += ["--mutants-seeds", str(tree.seeds)] if seeds else []
        started = time.monotonic()
        with output.open("w", encoding="utf-8") as printed:
            process = subprocess.Popen(
                [*command, *tests],
                cwd=tree.root,
                env=_environment(tree, database),
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            timed_out = _wait(process, patience)
        return Ran(
            outcomes=[json.loads(line) for line in _lines(file)],
            timed_out=timed_out,
            output="\n".join(_lines(output)),
            seconds=time.monotonic() - started,
        )


def _environment(tree: Tree, database: str) -> dict[str, str]:
    """Return an environment with a database of Redis of the job's own."""
    own = {
        "TEST_DATABASE": database,
        services.REDIS.variable: services.redis_url(f"gw{tree.number}"),
    }
    # Compiled modules are kept: compiling takes longer than most tests.
    left_out = {"REQUIRE_SERVICES", "PYTHONDONTWRITEBYTECODE"}
    return {key: value for key, value in os.environ.items() if key not in left_out} | own


def _wait(process: "subprocess.Popen[bytes]", patience: float) -> bool:
    """Wait for the end of a run and of what it has started; return whether it took too long."""
    timed_out = False
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        timed_out = True
        process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # also processes that a test has left
    process.wait()
    return timed_out


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
