"""The page that says which test fails when a promise is broken, made from the tables."""

from collections.abc import Iterator, Sequence

from .promises import promise_of
from .table import ROOT, RULES, Mutant

PAGE = ROOT / "docs" / "mutants.md"

HEAD = """# Broken promises, and the tests that fail

<!-- Made by `python -m tests.mutants --write` from tests/mutants/*.toml. Do not edit. -->

Each row is a small edit of the code that breaks a promise, and the tests that fail with it. `make
mutants` makes every edit in a copy of the tree and runs these tests; an edit with which a test passes is
an error. [Contributing](../CONTRIBUTING.md#broken-on-purpose) says how to add one.
"""


def page(mutants: Sequence[Mutant]) -> str:
    """Return the page: the promises of the README, the rules, and each table with all its entries."""
    return "\n".join([HEAD, *_by_promise(mutants), *_by_rule(mutants), *_by_topic(mutants)])


def _by_promise(mutants: Sequence[Mutant]) -> Iterator[str]:
    grouped: dict[str, list[Mutant]] = {}
    for each in mutants:
        if promise := promise_of(each):
            grouped.setdefault(promise, []).append(each)
    yield "## The promises of the README\n\n| promise | edits that break it |\n|---|---|"
    yield from (f"| {promise} | {_names(found)} |" for promise, found in grouped.items())
    yield ""


def _by_rule(mutants: Sequence[Mutant]) -> Iterator[str]:
    yield "## The rules\n\n| [rule](architecture.md#the-rules) | edits that break it |\n|---|---|"
    for rule in RULES:
        yield f"| {rule} | {_names([each for each in mutants if rule in each.rules])} |"
    yield ""


def _by_topic(mutants: Sequence[Mutant]) -> Iterator[str]:
    for topic in sorted({each.topic for each in mutants}):
        found = [each for each in mutants if each.topic == topic]
        yield f"## {topic.replace('_', ' ').capitalize()}\n"
        yield "| name | broken promise | edited | tests that fail |\n|---|---|---|---|"
        for each in found:
            tests = ", ".join(map(_link, each.tests))
            place = "" if each.database == "sqlite" else f" (on {NAMES[each.database]})"
            promise = each.promise.replace("|", r"\|")
            yield f"| `{each.name}` | {promise} | `{each.function}` | {tests}{place} |"
        yield ""


NAMES = {"postgres": "PostgreSQL", "mariadb": "MariaDB"}


def _names(mutants: Sequence[Mutant]) -> str:
    return ", ".join(f"`{each.name}`" for each in mutants)


def _link(test: str) -> str:
    file, _, name = test.partition("::")
    shown = name.rpartition("::")[2].replace("|", r"\|")
    return f"[`{shown}`](../{file})"
