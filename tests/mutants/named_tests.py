"""Whether the tests that the tables name exist."""

import ast
import re
from functools import cache
from pathlib import Path

from .table import ROOT


def exists(test: str, root: Path = ROOT) -> bool:
    """Return whether a file has a test, without importing it; the parameters are not looked at.

    The classes of tests/conformance inherit theirs from the suite of the package.
    """
    file, *names = re.sub(r"\[.*\]$", "", test).split("::")
    if not (root / file).exists():
        return False
    defined = _names(root / file)
    if len(names) == 1:
        return names[0] in defined
    suite = {name for path in root.glob("outbox_inbox/testing/**/*.py") for name in _names(path)}
    return names[0] in defined and names[-1] in defined | suite


@cache
def _names(path: Path) -> frozenset[str]:
    """Return the functions and classes of a module, and its methods."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
            found |= {node.name, *methods}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return frozenset(found)
