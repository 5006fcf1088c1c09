"""Run the tests: everything on SQLite, what touches a database on PostgreSQL, a part on MariaDB.

    python -m tests [pytest arguments]

The last lines count the runs and name the servers that did not answer. The exit status is 0 only
if nothing failed; with REQUIRE_SERVICES=1 a server that did not answer is a failure too.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests import services

ROOT = Path(__file__).resolve().parent.parent
TOUCH_A_DATABASE = ("tests/integration", "tests/conformance", "tests/acceptance")
NOTHING_COLLECTED = 5
# What the queues say to the database; what is above them says nothing else on MariaDB.
QUEUES = (
    "admin_actions",
    "concurrency",
    "dispatcher",
    "mysql",
    "operations",
    "operators",
    "partitions",
    "processes",
    "quarantine",
    "receiving",
    "recording",
    "relay",
    "rules",
    "statements",
    "streams",
    "transports",
)
KILL = "tests/acceptance/test_kill.py::test_a_kill_at_any_step_loses_and_repeats_nothing"
ON_MARIADB = (
    *(f"tests/integration/test_{name}.py" for name in QUEUES),
    *(f"{KILL}[{point}]" for point in ("dispatch.after_claim", "relay.before_mark")),
    "tests/acceptance/test_chaos.py::test_a_frozen_worker_is_thrown_out",
    "tests/unit/test_faults.py",
)
DATABASES = {"SQLite": "sqlite", "PostgreSQL": "postgres", "MariaDB": "mariadb"}


@dataclass(frozen=True)
class Run:
    """One run of pytest: the database, its exit status and its counts."""

    database: str
    status: int
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        """Count in the words of pytest's own closing line."""
        return (
            f"{self.database}: {self.passed} passed, {self.failed} failed, {self.skipped} skipped"
        )


def run(database: str, arguments: list[str]) -> Run:
    """Run pytest with the database as the default one."""
    print(f"\n=== {database} ===", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        status = subprocess.run(
            [sys.executable, "-m", "pytest", f"--junit-xml={report}", *arguments],
            cwd=ROOT,
            env=os.environ | {"TEST_DATABASE": DATABASES[database]},
            check=False,
        ).returncode
        return Run(database, status, *(count(report) if report.exists() else ()))


def count(report: Path) -> tuple[int, int, int]:
    """Return how many tests passed, failed and were skipped, from pytest's report."""
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    tests = failed = skipped = 0
    for suite in suites:
        tests += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return tests - failed - skipped, failed, skipped


def main(arguments: list[str]) -> int:
    """Run what can be run, report at the end, and return the exit status."""
    named = any(Path(argument.partition("::")[0]).exists() for argument in arguments)
    paths = [] if named else [path for path in TOUCH_A_DATABASE if (ROOT / path).is_dir()]
    runs = [run("SQLite", arguments)]
    if services.POSTGRES.problem is None:
        runs.append(run("PostgreSQL", [*arguments, *paths]))
    if services.MARIADB.problem is None:
        runs.append(run("MariaDB", [*arguments, *([] if named else ON_MARIADB)]))
    missing = services.missing()
    print("\n" + "\n".join(map(str, runs)))
    for problem in missing:
        print(f"Not reached, its tests did not run: {problem}")
    failed = any(each.status not in {0, NOTHING_COLLECTED} for each in runs)
    nothing_ran = all(each.status == NOTHING_COLLECTED for each in runs)
    return int(failed or nothing_ran or bool(missing and services.required()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
