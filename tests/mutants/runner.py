"""Runs the tests of each entry: first with nothing edited, when all must pass, then with its edit."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from queue import SimpleQueue

from .pytest_run import Ran, run_pytest
from .source import Edit, edit_of
from .table import DATABASES, Mutant
from .trees import Tree

PATIENCE = 60  # seconds for the databases of a run, on a busy machine
SLOWER = 8  # how many times longer than without the edit a test may take
WHOLE = 1800  # seconds for the run with nothing edited


@dataclass(frozen=True)
class Verdict:
    """What became of an entry.

    Fields:
        outcome: "killed", "timeout", "survived", or "no verdict": the tests were not run.
        tests: what became of each test.
        reason: the end of what pytest said, for people who look into it.
        seconds: how long the run took.
    """

    mutant: Mutant
    outcome: str
    tests: dict[str, str]
    reason: str
    seconds: float


@dataclass(frozen=True)
class Broken:
    """A test that does not pass with nothing edited."""

    test: str
    database: str
    state: str
    reason: str


class Runner:
    """Runs entries in copies of the tree, several at once.

    Arguments:
        free: the copies.
        jobs: how many there are.
        tell: called with each line of progress.
    """

    def __init__(self, free: SimpleQueue[Tree], jobs: int, tell: Callable[[str], None]) -> None:
        self._free = free
        self._jobs = jobs
        self._tell = tell
        self._took: dict[tuple[str, str], float] = {}

    def run_unbroken(self, mutants: Sequence[Mutant]) -> list[Broken]:
        """Run every named test with nothing edited; return those that do not pass."""
        runs = [
            (database, part) for database in DATABASES for part in self._parts(mutants, database)
        ]
        broken: list[Broken] = []
        with ThreadPoolExecutor(self._jobs) as pool:
            futures = {pool.submit(self._unbroken, *each): each for each in runs}
            for future in as_completed(futures):
                (database, tests), ran = futures[future], future.result()
                for test in tests:
                    self._took[test, database] = ran.took(test)
                    if (state := ran.state(test)) != "passed":
                        broken.append(Broken(test, database, state, ran.reason(test)))
                self._tell(f"not edited: {len(tests)} tests on {database} ({ran.seconds:.0f} s)")
        return broken

    def run(self, mutants: Sequence[Mutant]) -> Iterator[Verdict]:
        """Make each edit and run its tests; yield what became of it, the slowest first."""
        ordered = sorted(mutants, key=self._expected, reverse=True)
        with ThreadPoolExecutor(self._jobs) as pool:
            futures = [pool.submit(self._edited, each) for each in ordered]
            for done, future in enumerate(as_completed(futures), 1):
                verdict = future.result()
                self._tell(
                    f"[{done:>3}/{len(futures)}] {verdict.outcome:<10} {verdict.mutant.name}"
                    f" ({verdict.seconds:.0f} s)"
                )
                yield verdict

    def _parts(self, mutants: Sequence[Mutant], database: str) -> list[list[str]]:
        tests = sorted(
            {test for each in mutants if each.database == database for test in each.tests}
        )
        size = -(-len(tests) // self._jobs) or 1
        return [tests[start : start + size] for start in range(0, len(tests), size)]

    def _unbroken(self, database: str, tests: list[str]) -> Ran:
        return self._in_tree(
            lambda tree: run_pytest(tree, tests, database, patience=WHOLE, stop=False)
        )

    def _edited(self, mutant: Mutant) -> Verdict:
        edit = edit_of(mutant)
        ran = self._in_tree(lambda tree: self._run_edit(tree, mutant, edit))
        states = {test: ran.state(test) for test in mutant.tests}
        return Verdict(
            mutant, _outcome(states), states, ran.reason(mutant.tests[0]), round(ran.seconds, 1)
        )

    def _run_edit(self, tree: Tree, mutant: Mutant, edit: Edit) -> Ran:
        patience = PATIENCE + SLOWER * self._expected(mutant)
        with tree.edited(edit):
            return run_pytest(tree, mutant.tests, mutant.database, patience=patience, stop=True)

    def _expected(self, mutant: Mutant) -> float:
        return sum(self._took.get((test, mutant.database), 0) for test in mutant.tests)

    def _in_tree(self, work: Callable[[Tree], Ran]) -> Ran:
        tree = self._free.get()
        try:
            return work(tree)
        finally:
            self._free.put(tree)


def _outcome(states: dict[str, str]) -> str:
    """Return what the states of the named tests come to: one that passes is enough to survive."""
    found = set(states.values())
    for state, outcome in (
        ("passed", "survived"),
        ("not run", "no verdict"),
        ("skipped", "no verdict"),
        ("timeout", "timeout"),
    ):
        if state in found:
            return outcome
    return "killed"


def usual_jobs() -> int:
    """Return how many entries run at once by default: most tests wait for servers."""
    return min((os.cpu_count() or 1) + 1, 8)
