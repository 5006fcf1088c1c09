"""Run the tests: everything on SQLite, what touches a database on PostgreSQL, a part on MariaDB.

    python -m tests [--in-turn] [--on=mariadb|mysql|...] [pytest arguments]

Parts of the tests run side by side (TEST_PLACES at a time, by default one more than there are
processors, eight at most): they wait most of the time. Tests that are named, and all with --in-turn, run database
after database, on the terminal. With --on all tests that touch a database run on that one, which has
to answer; MySQL is asked for in no other way. The last lines count the runs and name the servers that
did not answer. The exit status is 0 only if nothing failed; with REQUIRE_SERVICES=1 a server that did
not answer is a failure too.
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from tests import services
from tests.side_by_side import NOTHING_COLLECTED, ROOT, Job, SideBySide

MOST_PLACES = 8  # each empties a database of Redis, which has 16
PLACES = int(os.environ.get("TEST_PLACES") or min((os.cpu_count() or 1) + 1, MOST_PLACES))
TOUCH_A_DATABASE = ("tests/integration", "tests/conformance", "tests/acceptance")
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
    "scheduling",
    "statements",
    "streams",
    "transports",
)
KILL = "tests/acceptance/test_kill.py::test_a_kill_at_any_step_loses_and_repeats_nothing"
FAULTS = "tests/unit/test_faults.py"  # of the unit tests those that cut connections
ON_MARIADB = (
    *(f"tests/integration/test_{name}.py" for name in QUEUES),
    *(f"{KILL}[{point}]" for point in ("dispatch.after_claim", "relay.before_mark")),
    "tests/acceptance/test_chaos.py::test_a_frozen_worker_is_thrown_out",
    FAULTS,
)
DATABASES = {
    "SQLite": "sqlite",
    "PostgreSQL": "postgres",
    "MariaDB": "mariadb",
    "MySQL": "mysql",
}


# Asked for by somebody who sits at the terminal.
IN_TURN = {"-s", "--capture=no", "--pdb", "--trace", "--in-turn"}
FIRST_FAILURE = {"-x", "--exitfirst"}
ON = "--on="


def parts() -> Iterator[tuple[str, list[str]]]:
    """Yield the parts that run side by side, the longest first, with their paths; all is in them."""
    folders = sorted({path.parent for path in (ROOT / "tests").rglob("test_*.py")})
    names = [str(folder.relative_to(ROOT)) for folder in folders]
    files = sorted(map(str, (ROOT / "tests/integration").glob("test_*.py")))
    yield "acceptance", ["tests/acceptance"]
    # By turns, since what is long is not all in one half of the alphabet.
    yield "integration 1", [str(Path(file).relative_to(ROOT)) for file in files[::2]]
    yield "integration 2", [str(Path(file).relative_to(ROOT)) for file in files[1::2]]
    yield "conformance", ["tests/conformance"]
    yield "rest", [name for name in names if name not in TOUCH_A_DATABASE]


def whole(arguments: list[str]) -> list[Job]:
    """Return the jobs that are all tests on all databases that answer."""
    found = []
    for name, paths in parts():
        found.append(job("SQLite", name, [*arguments, *paths]))
        if services.POSTGRES.problem is None and name != "rest":
            found.append(job("PostgreSQL", name, [*arguments, *paths]))
    if services.MARIADB.problem is None:
        found.insert(4, job("MariaDB", "chosen tests", [*arguments, *ON_MARIADB]))
    return found


def on_one(vendor: str, arguments: list[str]) -> list[Job]:
    """Return the jobs that are all tests which touch a database, on one."""
    database = next(name for name, value in DATABASES.items() if value == vendor)
    found = [job(database, name, [*arguments, *paths]) for name, paths in parts() if name != "rest"]
    return [*found, job(database, "faults", [*arguments, FAULTS])]


def one_each(arguments: list[str], *, named: bool, only: str | None) -> list[Job]:
    """Return one job a database: of tests that somebody has named, or all there are for it."""
    paths = {"postgres": TOUCH_A_DATABASE, "mariadb": ON_MARIADB}
    if only:
        paths[only] = (*TOUCH_A_DATABASE, FAULTS)
    return [
        job(database, "", [*arguments, *([] if named else paths.get(vendor, []))])
        for database, vendor in DATABASES.items()
        if vendor == only or (only is None and answers(vendor))
    ]


def answers(vendor: str) -> bool:
    """Tell whether a database answers that is asked without being named."""
    return vendor != "mysql" and (vendor == "sqlite" or services.DATABASES[vendor].problem is None)


def job(database: str, name: str, arguments: list[str]) -> Job:
    """Return the job of one part on a database, with a cache of its own (--last-failed)."""
    vendor = DATABASES[database]
    cache = f"cache_dir=.pytest_cache/{vendor}-{name.replace(' ', '-')}".rstrip("-")
    return Job(database, name, {"TEST_DATABASE": vendor}, ["-o", cache, *arguments])


def run_in_turn(jobs: list[Job]) -> None:
    """Run one after the other, on the terminal."""
    for each in jobs:
        print(f"\n=== {each} ===", flush=True)
        each.run(captured=False)


def summary(jobs: list[Job]) -> Iterator[str]:
    """Yield a line for each database, in the words of pytest's own closing line."""
    for database in DATABASES:
        mine = [each for each in jobs if each.database == database]
        if mine:
            passed = sum(each.passed for each in mine)
            failed = sum(each.failed for each in mine)
            skipped = sum(each.skipped for each in mine)
            yield f"{database}: {passed:,} passed, {failed} failed, {skipped} skipped"


def main(given: list[str]) -> int:
    """Run what can be run, report at the end, and return the exit status."""
    arguments = [each for each in given if each != "--in-turn" and not each.startswith(ON)]
    only = next((each.removeprefix(ON) for each in given if each.startswith(ON)), None)
    if only is not None and only not in DATABASES.values():
        sys.exit(f"--on={only}: expected one of {', '.join(DATABASES.values())}.")
    missing = services.missing()
    if only in services.DATABASES and (problem := services.DATABASES[only].problem):
        sys.exit(f"Not reached: {problem}")
    jobs = run(given, arguments, only)
    print("\n" + "\n".join(summary(jobs)))
    for problem in missing:
        print(f"Not reached, its tests did not run: {problem}")
    nothing_ran = all(each.status == NOTHING_COLLECTED for each in jobs)
    failed = not all(each.well for each in jobs) or nothing_ran
    return int(failed or bool(missing and services.required()))


def run(given: list[str], arguments: list[str], only: str | None) -> list[Job]:
    """Run the tests, on one database or on all that answer; return how it went."""
    named = any(Path(argument.partition("::")[0]).exists() for argument in arguments)
    if named or IN_TURN & set(given):
        jobs = one_each(arguments, named=named, only=only)
        run_in_turn(jobs)
    else:
        jobs = on_one(only, arguments) if only else whole(arguments)
        first = bool(FIRST_FAILURE & set(arguments))
        SideBySide(jobs, PLACES, first_failure=first).run()
    return jobs


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the jobs as well
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
