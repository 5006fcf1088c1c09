"""Finds out whether anything in a context can produce a contract that it publishes."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from django.apps import apps

from outbox_inbox.contexts import Context
from outbox_inbox.events.marking import EventClass

from .signatures import returned_classes


def is_produced(contract: EventClass, context: Context) -> bool:
    """Tell whether a translator returns the contract or the context's source code uses it.

    A translator says so by its return annotation; one without annotation may return anything.
    A use case that records the contract directly may be imported late or never here, so the
    source files are read: any use of the class's name counts, an import alone does not. Left out
    are the package or module of contracts, ``apps.py``, migrations and tests, which name every
    contract. A context without source files is given the benefit of the doubt.
    """
    for consumer in context.all_consumers:
        if consumer.kind == "outbound":
            returned = returned_classes(consumer.function)
            if returned is None or contract in returned:
                return True
    files = list(_source_files(context))
    declaring = contract.__module__.removeprefix(f"{context.app}.").split(".")[0]
    left_out = {declaring, "apps", "migrations", "tests"}
    return not files or any(
        contract.__name__ in _used_names(file)
        for parts, file in files
        if not left_out.intersection(parts[:1])
    )


def _source_files(context: Context) -> Iterator[tuple[tuple[str, ...], Path]]:
    root = Path(apps.get_app_config(context.label).path)
    for file in sorted(root.rglob("*.py")):
        yield file.relative_to(root).with_suffix("").parts, file


@cache
def _used_names(file: Path) -> frozenset[str]:
    """Return the names that a source file uses, those imported ``as`` something by their own."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    found: set[str] = set()
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            aliases |= {each.asname: each.name for each in node.names if each.asname}
    return frozenset(found | {name for alias, name in aliases.items() if alias in found})
