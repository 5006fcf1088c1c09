"""No module reads by a cursor that outlives its statement."""

import ast
from pathlib import Path

import outbox_inbox

PACKAGE = Path(outbox_inbox.__file__).parent


def test_rows_are_read_in_pages_and_not_by_a_cursor():
    """Outside of a transaction `iterator()` of Django needs a session of its own on PostgreSQL."""
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"iterator", "aiterator"}
    ]
    assert found == []
