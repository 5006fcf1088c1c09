"""Run the tests: everything on SQLite, what touches a database on PostgreSQL, a part on MariaDB.

    python -m tests [--in-turn] [--on=mariadb|mysql|...] [pytest arguments]

One pytest runs for each database that answers, one after the other. pytest-xdist spreads its tests over
several processes (TEST_PLACES, by default one more than there are processors, eight at most), because
most tests wait for processes, servers and locks. Each process has its own databases and its own database
of Redis. Named tests, and all tests with --in-turn, run in one process. With --on, all tests that touch a
database run on that one, which must answer; MySQL is used in no other way. The last lines name the
servers that did not answer. The exit status is 0 only if no test failed; with REQUIRE_SERVICES=1 a server
that did not answer is a failure too.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests import services

ROOT = Path(__file__).resolve().parent.parent
NOTHING_COLLECTED = 5
MOST_PLACES = 8  # each process empties its own database of Redis, which has 16
PLACES = int(os.environ.get("TEST_PLACES") or min((os.cpu_count() or 1) + 1, MOST_PLACES))
TOUCH_A_DATABASE = ("tests/integration", "tests/conformance", "tests/acceptance")
# What the queues say to the database; what is above them says nothing else on MariaDB.
QUEUES = (
    "admin_actions",
    "admin_operators",
    "careful_walks",
    "clock_put_back",
    "concurrency",
    "database_outages",
    "depths",
    "dispatcher",
    "dispatcher_failures",
    "dispatcher_transactions",
    "ended_transactions",
    "in_force",
    "interests",
    "mysql",
    "neighbours",
    "operations",
    "operators",
    "packets",
    "partitions",
    "processes",
    "promotion",
    "quarantine",
    "queue_stats",
    "receiving",
    "recording",
    "relay",
    "relay_failures",
    "renaming",
    "scheduling",
    "schema",
    "statements",
    "streams",
    "time_zones",
    "transports",
    "visible_text",
)
KILL = "tests/acceptance/test_kill.py::test_a_kill_at_any_step_loses_and_repeats_nothing"
FAULTS = "tests/unit/test_faults.py"  # of the unit tests those that cut connections
ON_MARIADB = (
    *(f"tests/integration/test_{name}.py" for name in QUEUES),
    *(f"{KILL}[{point}]" for point in ("dispatch.after_claim", "relay.before_mark")),
    "tests/acceptance/test_chaos.py::test_a_frozen_worker_is_thrown_out",
    FAULTS,
)
NAMES = {"sqlite": "SQLite", "postgres": "PostgreSQL", "mariadb": "MariaDB", "mysql": "MySQL"}

# Where the database makes a difference: kills and locks, but not what crosses a broker, nor orders that
# run through several processes. All of it runs on SQLite, and with `make acceptance` on PostgreSQL.
ON_POSTGRES = (
    "tests/integration",
    "tests/conformance/test_local.py",
    *(f"tests/acceptance/test_{name}.py" for name in ("chaos", "kill", "rebuild_kill", "transfer")),
)

PATHS = {
    "sqlite": ("tests",),
    "postgres": ON_POSTGRES,
    "mariadb": ON_MARIADB,
    "mysql": (*TOUCH_A_DATABASE, FAULTS),
}
# Options of pytest that need the terminal, and ours that asks for one process.
IN_TURN = {"-s", "--capture=no", "--pdb", "--trace", "--in-turn"}
FIRST_FAILURE = {"-x", "--exitfirst"}
ON = "--on="


def main(given: Sequence[str]) -> int:
    """Run what can be run and return the exit status.

    Raises:
        SystemExit: --on names a database that does not exist or does not answer.
    """
    arguments = [each for each in given if each != "--in-turn" and not each.startswith(ON)]
    only = next((each.removeprefix(ON) for each in given if each.startswith(ON)), None)
    missing = services.missing()
    statuses = list(
        run(list(databases(only)), arguments, in_turn=bool(IN_TURN & set(given)), only=only)
    )
    for problem in missing:
        print(f"Not reached, its tests did not run: {problem}")
    failed = any(status not in {0, NOTHING_COLLECTED} for status in statuses)
    nothing_ran = all(status == NOTHING_COLLECTED for status in statuses)
    return int(failed or nothing_ran or bool(missing and services.required()))


def databases(only: str | None) -> Iterator[str]:
    """Yield the databases to run on: the given one, or all that answer but MySQL."""
    if only is not None and only not in NAMES:
        sys.exit(f"--on={only}: expected one of {', '.join(NAMES)}.")
    if only in services.DATABASES and (problem := services.DATABASES[only].problem):
        sys.exit(f"Not reached: {problem}")
    for vendor in NAMES:
        if vendor == only or (only is None and answers(vendor)):
            yield vendor


def answers(vendor: str) -> bool:
    """Return whether a database answers that is used without being named."""
    return vendor != "mysql" and (vendor == "sqlite" or services.DATABASES[vendor].problem is None)


def run(
    vendors: Sequence[str], arguments: Sequence[str], *, in_turn: bool, only: str | None
) -> Iterator[int]:
    """Run pytest on each database; yield its exit status."""
    named = any(Path(argument.partition("::")[0]).exists() for argument in arguments)
    places = [] if in_turn or named else [f"--numprocesses={PLACES}", "--dist=worksteal"]
    for vendor in vendors:
        whole = vendor == only != "sqlite" or (vendor == "postgres" and "slow" in arguments)
        paths = [] if named else PATHS["mysql" if whole else vendor]
        print(f"\n=== {NAMES[vendor]} ===", flush=True)
        cache = f"cache_dir=.pytest_cache/{vendor}"  # --last-failed is a list for each database
        status = subprocess.call(
            [sys.executable, "-m", "pytest", "-o", cache, *places, *arguments, *paths],
            cwd=ROOT,
            env=os.environ | {"TEST_DATABASE": vendor},
        )
        yield status
        if status not in {0, NOTHING_COLLECTED} and FIRST_FAILURE & set(arguments):
            return


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
