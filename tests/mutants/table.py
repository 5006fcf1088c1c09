"""The entries of the tables, read and checked: a mistake in an entry says which one and what is wrong."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TABLES = Path(__file__).resolve().parent
DATABASES = ("sqlite", "postgres", "mariadb")
RULES = tuple(f"O{number}" for number in range(1, 11))
KEBAB = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
TEST = re.compile(r"tests/[\w/]+\.py(?:::Test\w+)?::test_\w+(?:\[.+\])?")


class TableError(Exception):
    """An entry cannot be used: its text says which one and what is wrong."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """An edit that breaks a promise, and the tests that must notice.

    Fields:
        name: unique, in kebab-case.
        promise: what breaks, one sentence.
        function: what is edited: a dotted path below ``outbox_inbox`` to a function, a method, a class, a
            constant or a module.
        old: text that occurs once in it; white space at the start of lines does not count.
        new: what stands there instead.
        tests: ids of pytest; each of them must fail. One without brackets stands for all its parameters.
        database: the default database of the tests.
        rules: those of docs/architecture.md that the edit breaks.
        readme: the promise of the README that it breaks, quoted as far as it is unambiguous.
        topic: the stem of the table's file.
    """

    name: str
    promise: str
    function: str
    old: str
    new: str
    tests: tuple[str, ...]
    database: str = "sqlite"
    rules: tuple[str, ...] = ()
    readme: str = ""
    topic: str


TEXTS = ("name", "promise", "function", "old", "new")
REQUIRED = {*TEXTS, "tests"}
ALLOWED = {*REQUIRED, "database", "rules", "readme"}


def load(folder: Path = TABLES) -> list[Mutant]:
    """Return the entries of all tables of a folder, in the order of files and lines.

    Raises:
        TableError: an entry is wrong, or two have one name.
    """
    found = [each for path in sorted(folder.glob("*.toml")) for each in _read(path)]
    places: dict[str, str] = {}
    for each in found:
        if each.name in places:
            raise TableError(
                f"{each.topic}.toml: {each.name}: {places[each.name]}.toml has this name too."
            )
        places[each.name] = each.topic
    return found


def _read(path: Path) -> Iterator[Mutant]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise TableError(f"{path.name}: not TOML: {error}") from error
    if table.keys() - {"mutant"} or not isinstance(table.get("mutant", []), list):
        raise TableError(f"{path.name}: expected nothing but [[mutant]] entries.")
    for number, entry in enumerate(table.get("mutant", []), 1):
        place = f"{path.name}: {entry.get('name') or f'entry {number}'}"
        if problem := next(_problems(entry), None):
            raise TableError(f"{place}: {problem}")
        lists = {key: tuple(entry.get(key, ())) for key in ("tests", "rules")}
        yield Mutant(**{**entry, **lists}, topic=path.stem)


def _problems(entry: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with an entry, each in a sentence."""
    if missing := sorted(REQUIRED - entry.keys()):
        yield f"{', '.join(missing)} is missing."
    if unknown := sorted(entry.keys() - ALLOWED):
        yield f"{', '.join(unknown)} is unknown; expected {', '.join(sorted(ALLOWED))}."
    if wrong := [key for key in (*TEXTS, "readme") if not isinstance(entry.get(key, ""), str)]:
        yield f"{wrong[0]} is not a text."
    if not KEBAB.fullmatch(entry["name"]):
        yield "the name is not kebab-case."
    if not re.fullmatch(r"[A-Z\"“].*\.", entry["promise"]):
        yield "the promise is not one sentence on one line, from a capital letter to a full stop."
    if not entry["old"].strip():
        yield "old is empty."
    yield from _problems_of_lists(entry)


def _problems_of_lists(entry: dict[str, Any]) -> Iterator[str]:
    tests = entry["tests"]
    if not isinstance(tests, list) or not tests:
        yield "tests is not a list with at least one test."
    if wrong := [each for each in tests if not TEST.fullmatch(str(each))]:
        yield f"{wrong[0]!r} is not the id of a test: tests/folder/test_file.py::test_name."
    if (database := entry.get("database", "sqlite")) not in DATABASES:
        yield f"database {database!r} is unknown; expected {', '.join(DATABASES)}."
    if unknown := sorted(set(entry.get("rules", ())) - {*RULES}):
        yield f"rule {unknown[0]!r} is unknown; expected O1 to O10."
