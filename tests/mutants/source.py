"""Where in the package an edit belongs, and the file with the edit made.

An edit names what it changes by its qualified name, and the changed text without the white space at the
start of lines. So it survives a function that moves to another module or is indented in another way. It
fails when the text is no longer there: what cannot be broken any more is not guarded any more.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent

from .table import ROOT, Mutant, TableError

PACKAGE = "outbox_inbox"


@dataclass(frozen=True)
class Place:
    """Lines of a file, counted from 1, the last one included."""

    path: Path
    first: int
    last: int


@dataclass(frozen=True)
class Edit:
    """A file of the package, relative to the tree, and its text with the edit made."""

    file: Path
    text: str


def edit_of(mutant: Mutant, root: Path = ROOT) -> Edit:
    """Return the file that an entry changes, with the change.

    Raises:
        TableError: the function is not found or not unique, the text does not occur exactly once in it,
            or what comes out is not Python or nothing else than before.
    """
    place = locate(mutant, root / PACKAGE)
    lines = place.path.read_text(encoding="utf-8").splitlines(keepends=True)
    before, after = "".join(lines[: place.first - 1]), "".join(lines[place.last :])
    segment = "".join(lines[place.first - 1 : place.last])
    text = before + _replace(mutant, segment) + after
    if text == "".join(lines):
        raise TableError(f"{_entry(mutant)}: old and new are the same.")
    file = place.path.relative_to(root)
    try:
        compile(text, str(file), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise TableError(
            f"{_entry(mutant)}: {file} with the edit is not Python: {error}"
        ) from error
    return Edit(file, text)


def locate(mutant: Mutant, package: Path) -> Place:
    """Return the lines that a dotted path names.

    Raises:
        TableError: neither the module has it, nor exactly one other module of the package.
    """
    parts = mutant.function.split(".")
    for count in range(len(parts), 0, -1):
        path = _module(package, parts[:count])
        if path is None:
            continue
        if count == len(parts):
            return Place(path, 1, len(path.read_text(encoding="utf-8").splitlines()))
        if places := definitions(path).get(".".join(parts[count:])):
            return _only(mutant, places)
        break
    return _only(mutant, list(_moved(package, parts)))


def _module(package: Path, parts: list[str]) -> Path | None:
    path = package.joinpath(*parts)
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((each for each in candidates if each.exists()), None)


def _moved(package: Path, parts: list[str]) -> Iterator[Place]:
    """Yield what has the qualified name in any module: a method keeps its class, a function stands alone."""
    of_class = len(parts) > 1 and parts[-2].lstrip("_")[:1].isupper() and not parts[-2].isupper()
    name = ".".join(parts[-2:] if of_class else parts[-1:])
    for path in sorted(package.rglob("*.py")):
        yield from definitions(path).get(name, ())


def _only(mutant: Mutant, places: list[Place]) -> Place:
    if len(places) == 1:
        return places[0]
    where = ", ".join(f"{each.path.name}:{each.first}" for each in places)
    raise TableError(
        f"{_entry(mutant)}: no longer applies: {mutant.function} is "
        + (f"defined more than once ({where})." if places else "not in the package.")
    )


@cache
def definitions(path: Path) -> dict[str, list[Place]]:
    """Return what a module defines, by qualified name: functions, classes, methods and constants."""
    found: dict[str, list[Place]] = {}
    for name, node in _named(ast.parse(path.read_text(encoding="utf-8")), ""):
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(each.lineno for each in decorators)])
        found.setdefault(name, []).append(Place(path, first, node.end_lineno or node.lineno))
    return found


def _named(parent: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, ast.stmt]]:
    for node in parent.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield prefix + name, node
            case ast.ClassDef(name=name):
                yield prefix + name, node
                yield from _named(node, f"{prefix}{name}.")
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield prefix + name, node


def _replace(mutant: Mutant, segment: str) -> str:
    lines = [re.escape(line.strip()) for line in mutant.old.strip("\n").split("\n")]
    pattern = r"[ \t]*\n[ \t]*".join(lines)
    found = [match.span(1) for match in re.finditer(f"(?=({pattern}))", segment)]
    if len(found) != 1:
        raise TableError(
            f"{_entry(mutant)}: no longer applies: its old text occurs {len(found)} times "
            f"in {mutant.function}, and must occur once."
        )
    start, end = found[0]
    line = segment[segment.rfind("\n", 0, start) + 1 : start]
    indent = line[: len(line) - len(line.lstrip())]
    first, *more = dedent(mutant.new.strip("\n")).strip().split("\n")
    return segment[:start] + f"\n{indent}".join([first, *more]) + segment[end:]


def _entry(mutant: Mutant) -> str:
    return f"{mutant.topic}.toml: {mutant.name}"
