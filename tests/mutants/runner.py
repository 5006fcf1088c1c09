"""Runs the tests of each entry: first with nothing edited, when all must pass, then with its edit."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue

from .pytest_run import Ran, run_pytest
from .seeds import fits
from .source import Edit, edit_of
from .table import DATABASES, Mutant
from .trees import Tree

PATIENCE = 60  # seconds for the databases of a run, on a busy machine
UNKNOWN = 30  # seconds that a test takes of which nothing is known
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
        """Run every named test with nothing edited; return those that do not pass.

        A test that fails among others is run alone, as it is with an edit.
        """
        runs = [
            (database, part) for database in DATABASES for part in self._parts(mutants, database)
        ]
        broken: list[Broken] = []
        with self._pool() as pool:
            futures = {pool.submit(self._unbroken, *each): each for each in runs}
            for future in as_completed(futures):
                database, tests = futures[future]
                broken += future.result()
                self._tell(f"not edited: {len(tests)} tests on {database}")
        return broken

    def _unbroken(self, database: str, tests: list[str]) -> list[Broken]:
        ran = self._run_tests(tests, database)
        broken = []
        for test in tests:
            state, found = ran.state(test), ran
            if state == "failed" and len(tests) > 1:
                found = self._run_tests([test], database)
                state = found.state(test)
            self._took[test, database] = found.took(test)
            if state != "passed":
                broken.append(Broken(test, database, state, found.reason(test)))
        return broken

    def _run_tests(self, tests: list[str], database: str) -> Ran:
        return self._in_tree(lambda tree: run_pytest(tree, tests, database, patience=WHOLE))

    def run(self, mutants: Sequence[Mutant]) -> Iterator[Verdict]:
        """Make each edit and run its tests; yield what became of it, the slowest first."""
        ordered = sorted(mutants, key=self._expected, reverse=True)
        edits = [edit_of(each) for each in ordered]  # before the tree is edited meanwhile
        with self._pool() as pool:
            futures = [
                pool.submit(self._edited, *each) for each in zip(ordered, edits, strict=True)
            ]
            for done, future in enumerate(as_completed(futures), 1):
                verdict = future.result()
                self._tell(
                    f"[{done:>3}/{len(futures)}] {verdict.outcome:<10} {verdict.mutant.name}"
                    f" ({verdict.seconds:.0f} s)"
                )
                yield verdict

    @contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """Run jobs in threads; when the caller is interrupted, begin no further one."""
        pool = ThreadPoolExecutor(self._jobs)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)

    def _parts(self, mutants: Sequence[Mutant], database: str) -> list[list[str]]:
        tests = sorted(
            {test for each in mutants if each.database == database for test in each.tests}
        )
        size = -(-len(tests) // self._jobs) or 1
        return [tests[start : start + size] for start in range(0, len(tests), size)]

    def _edited(self, mutant: Mutant, edit: Edit) -> Verdict:
        ran = self._in_tree(lambda tree: self._run_edit(tree, mutant, edit))
        states = {test: ran.state(test) for test in mutant.tests}
        return Verdict(
            mutant, outcome_of(states), states, ran.reason(mutant.tests[0]), round(ran.seconds, 1)
        )

    def _run_edit(self, tree: Tree, mutant: Mutant, edit: Edit) -> Ran:
        patience = PATIENCE + SLOWER * self._expected(mutant)
        with tree.edited(edit):
            return run_pytest(
                tree,
                mutant.tests,
                mutant.database,
                patience=patience,
                stop=True,
                seeds=fits(edit),
            )

    def _expected(self, mutant: Mutant) -> float:
        return sum(self._took.get((test, mutant.database), UNKNOWN) for test in mutant.tests)

    def _in_tree(self, work: Callable[[Tree], Ran]) -> Ran:
        tree = self._free.get()
        try:
            return work(tree)
        finally:
            self._free.put(tree)


def outcome_of(states: dict[str, str]) -> str:
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
