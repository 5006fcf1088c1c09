"""The table of breakages can be used: each edit applies, each test exists, each promise is broken once."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.named_tests import exists
from tests.mutants.page import PAGE, page
from tests.mutants.promises import promise_of, promises
from tests.mutants.pytest_run import Ran
from tests.mutants.runner import outcome_of
from tests.mutants.sample import LONG, sample
from tests.mutants.source import PACKAGE, definitions, edit_of
from tests.mutants.table import DATABASES, RULES, Mutant, TableError, load

ROOT = Path(__file__).resolve().parents[2]
MUTANTS = load()

ENTRY = {
    "name": "one-entry",
    "promise": "A breakage is noticed.",
    "function": "queues.run.Run.claim",
    "old": "if a:\n    return b",
    "new": "return b",
    "tests": ["tests/unit/test_mutants.py::test_an_edit_is_made_wherever_the_function_is"],
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_an_edit_applies(mutant):
    """Code that has moved on from an edit is not guarded by it any more."""
    assert edit_of(mutant).text


def test_an_edit_leaves_no_undefined_name(tmp_path):
    """An edit that fails at once, whatever it changes, proves nothing about a test."""
    for each in MUTANTS:
        (tmp_path / f"{each.name}.py").write_text(edit_of(each).text, encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--quiet"]
    rules = ["--select=F821,F822,F823", "--output-format=concise"]
    done = subprocess.run([*command, *rules, tmp_path], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_every_named_test_exists():
    """A test that was renamed or removed is missed where it guards a promise."""
    assert [test for each in MUTANTS for test in each.tests if not exists(test)] == []


def test_every_quoted_promise_is_one_of_the_readme():
    """A promise that the README no longer makes is not quoted."""
    assert [each for each in MUTANTS if each.readme and promise_of(each) is None] == []


def test_every_rule_and_every_promise_of_the_readme_is_broken_once():
    """A promise without an edit that breaks it may have lost its test."""
    assert [rule for rule in RULES if not any(rule in each.rules for each in MUTANTS)] == []
    broken = {promise_of(each) for each in MUTANTS}
    assert [promise for promise in promises() if promise not in broken] == []
    assert len(promises()) > 15


def test_there_are_many_edits_on_every_database():
    """Each mover says other things to each vendor."""
    counts = Counter(each.database for each in MUTANTS)
    assert len(MUTANTS) >= 120
    assert {database for database, count in counts.items() if count >= 10} == {*DATABASES}


def test_a_sample_is_spread_and_depends_on_the_commit(monkeypatch):
    """Ten of different topics, others at another commit, and all of them over time."""
    found = {}
    for commit in range(600):
        monkeypatch.setattr("tests.mutants.sample._commit", lambda commit=commit: b"%d" % commit)
        found[commit] = [each.name for each in sample(MUTANTS, 10)]
    assert {len({*names}) for names in found.values()} == {10}
    assert found[0] != found[1]
    topics = {each.name: each.topic for each in MUTANTS}
    assert all(len({topics[name] for name in names}) >= 5 for names in found.values())
    quick = {each.name for each in MUTANTS if not any(test.startswith(LONG) for test in each.tests)}
    assert {name for names in found.values() for name in names} == quick


def test_the_page_is_that_of_the_tables():
    """Readers see every entry; `python -m tests.mutants --write` makes the page."""
    assert PAGE.read_text(encoding="utf-8") == page(MUTANTS)


# ---------------------------------------------------------------------- what the tables can say


def mutant(**changes: object) -> Mutant:
    """Return an entry with some fields changed."""
    entry = {**ENTRY, "tests": tuple(ENTRY["tests"]), "topic": "topic", **changes}
    return Mutant(**entry)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of one module, below a tree."""
    folder = tmp_path / PACKAGE / "queues"
    folder.mkdir(parents=True)
    return folder


CODE = (
    "class Run:\n    def claim(self, a, b):\n        x = 1\n        if a:\n            return b\n"
)


@pytest.mark.parametrize("module", ["run", "moved"])
def test_an_edit_is_made_wherever_the_function_is(package, module):
    """In the module of the entry, or in the one to which the method has moved; indented as it stands."""
    (package / f"{module}.py").write_text(CODE)
    edit = edit_of(mutant(), package.parents[1])
    assert edit.file == Path(PACKAGE, "queues", f"{module}.py")
    assert edit.text == CODE.replace("        if a:\n            return b", "        return b")


def test_lines_of_an_edit_are_indented_as_those_before(package):
    """What an entry writes at the margin stands where the old text stood."""
    (package / "run.py").write_text(CODE)
    edit = edit_of(mutant(old="if a:\nreturn b", new="if b:\n    return a"), package.parents[1])
    assert edit.text == CODE.replace("if a:", "if b:").replace("return b", "return a")


def test_an_edit_can_change_a_constant_or_a_module(package):
    """Not all that breaks a promise is in a function."""
    (package / "run.py").write_text("LIMIT = 1\nOTHER = 1\n")
    for function in ("queues.run.LIMIT", "queues.run"):
        edit = edit_of(
            mutant(function=function, old="LIMIT = 1", new="LIMIT = 2"), package.parents[1]
        )
        assert edit.text == "LIMIT = 2\nOTHER = 1\n"


@pytest.mark.parametrize(
    ("files", "changes", "problem"),
    [
        ({"run": "x = 1\n"}, {}, "queues.run.Run.claim is not in the package"),
        ({"one": CODE, "two": CODE}, {}, "defined more than once (one.py:2, two.py:2)"),
        ({"run": CODE}, {"old": "if b:"}, "occurs 0 times in queues.run.Run.claim"),
        ({"run": CODE}, {"old": "a"}, "times in queues.run.Run.claim, and must occur once"),
        ({"run": CODE}, {"new": "if a:\n    return b"}, "old and new are the same"),
        ({"run": CODE}, {"new": "return return"}, "is not Python"),
    ],
)
def test_an_edit_that_does_not_apply_is_an_error(package, files, changes, problem):
    """It says which entry, and what is no longer there."""
    for name, code in files.items():
        (package / f"{name}.py").write_text(code)
    with pytest.raises(TableError, match=r"topic\.toml: one-entry: ") as raised:
        edit_of(mutant(**changes), package.parents[1])
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("name = 'Not kebab'", "the name is not kebab-case"),
        ("promise = 'no sentence'", "the promise is not one sentence"),
        ("old = ' '", "old is empty"),
        ("new = 1", "new is not a text"),
        ("tests = []", "tests is not a list with at least one test"),
        ("tests = ['test_x']", "'test_x' is not the id of a test"),
        ("database = 'oracle'", "database 'oracle' is unknown"),
        ("rules = ['O11']", "rule 'O11' is unknown"),
        ("file = 'x.py'", "file is unknown; expected database, function"),
    ],
)
def test_a_wrong_entry_is_an_error(tmp_path, line, problem):
    """It says which entry and what is wrong with it."""
    key = line.partition(" ")[0]
    lines = [f"{name} = {value!r}" for name, value in ENTRY.items() if name != key]
    (tmp_path / "topic.toml").write_text("\n".join(["[[mutant]]", *lines, line]))
    with pytest.raises(TableError, match=r"topic\.toml: ") as raised:
        load(tmp_path)
    assert problem in str(raised.value)


def test_a_missing_key_and_a_name_used_twice_are_errors(tmp_path):
    """Two entries of one name could not be told apart in a report."""
    entry = "\n".join(["[[mutant]]", *(f"{name} = {value!r}" for name, value in ENTRY.items()), ""])
    (tmp_path / "a.toml").write_text(entry)
    (tmp_path / "b.toml").write_text(entry)
    with pytest.raises(TableError, match=r"b\.toml: one-entry: a\.toml has this name too"):
        load(tmp_path)
    (tmp_path / "b.toml").write_text("[[mutant]]\nname = 'x'\n")
    with pytest.raises(
        TableError, match=r"b\.toml: x: function, new, old, promise, tests is missing"
    ):
        load(tmp_path)


def test_a_definition_is_found_with_its_decorators(tmp_path):
    """An edit can change a decorator, too."""
    path = tmp_path / "module.py"
    path.write_text("@atomic\ndef f():\n    pass\n")
    assert [(each.first, each.last) for each in definitions(path)["f"]] == [(1, 3)]


# ----------------------------------------------------------------------------- what a run showed


def ran(*outcomes: tuple[str, str], timed_out: bool = False) -> Ran:
    """Return a run with some outcomes of tests."""
    records = [
        {"test": test, "outcome": outcome, "seconds": 1, "reason": ""} for test, outcome in outcomes
    ]
    return Ran(outcomes=records, timed_out=timed_out)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (ran(("a", "passed"), ("a", "passed")), "passed"),
        (ran(("a", "passed"), ("a", "failed"), ("a", "passed")), "failed"),
        (ran(("a[1]", "passed"), ("a[2]", "failed")), "failed"),
        (ran(("ab", "failed")), "not run"),
        (ran(("a", "skipped"), ("a", "passed")), "skipped"),
        (ran(("b", "passed"), ("a", "started"), timed_out=True), "timeout"),
        (ran(("b", "started"), timed_out=True), "timeout"),
        (ran(("a", "passed"), ("b", "started"), timed_out=True), "passed"),
        (ran(), "not run"),
    ],
)
def test_the_state_of_a_named_test(found, state):
    """One failing parameter is enough; what hangs, or is not reached before, has timed out."""
    assert found.state("a") == state


@pytest.mark.parametrize(
    ("states", "outcome"),
    [
        (["failed", "failed"], "killed"),
        (["failed", "passed"], "survived"),
        (["failed", "timeout"], "timeout"),
        (["timeout", "not run"], "no verdict"),
        (["skipped"], "no verdict"),
    ],
)
def test_the_outcome_of_an_entry(states, outcome):
    """Each of its tests must fail; one that was not run proves nothing."""
    assert outcome_of(dict(zip("ab", states, strict=False))) == outcome
