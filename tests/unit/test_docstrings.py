"""Every code block in a docstring of the package runs: users copy an example, mistakes included."""

import ast
import doctest
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

import outbox_inbox
from outbox_inbox.conf import faults
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.transports.memory import MemoryTransport
from tests.integration.conftest import both_databases, committed

__all__ = ["both_databases", "committed"]

ROOT = Path(outbox_inbox.__file__).parent
FENCED = re.compile(r"^( *)```\w*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^( *)(?! |\.\. ).*::\n\s*\n((?:(?:\1 +\S.*)?\n)+)", re.MULTILINE)


class Block(NamedTuple):
    """A code block, and the module whose docstring has it."""

    module: str
    code: str


def docstrings(path: Path) -> Iterator[str]:
    """Yield every text that stands alone in a module: docstrings, those of attributes as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield inspect.cleandoc(value.value) + "\n"


def blocks_of(text: str) -> Iterator[str]:
    """Yield the code blocks of a docstring: fenced, indented after ``::``, and doctests."""
    for match in (*FENCED.finditer(text), *INDENTED.finditer(text)):
        yield dedent(match[2])
    yield from (each.source for each in doctest.DocTestParser().get_examples(text))


def module_of(path: Path) -> str:
    """Return the name of a module of the package."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


BLOCKS = [
    Block(module_of(path), code)
    for path in sorted(ROOT.rglob("*.py"))
    for text in docstrings(path)
    for code in blocks_of(text)
]


class MyServer:
    """The server of a transport that the author of a suite would have."""

    url = "mine://host"

    def empty(self) -> None:
        """Lose every message."""

    def stop(self) -> None:
        """Be unreachable."""
        MyTransport.is_up = False

    def start(self) -> None:
        """Be reachable."""
        MyTransport.is_up = True

    def restart(self) -> None:
        """Be unreachable for a moment."""
        self.stop()
        self.start()


class MyTransport(MemoryTransport):
    """The transport of that author."""

    is_up = True

    def publish(self, *arguments: Any) -> Any:
        """Publish if the server is up."""
        if not self.is_up:
            raise TransportUnavailable("my server is down")
        return super().publish(*arguments)

    def receive(self, *arguments: Any) -> Any:
        """Receive if the server is up."""
        if not self.is_up:
            raise TransportUnavailable("my server is down")
        return super().receive(*arguments)


def run_suite(names: dict[str, Any], request: pytest.FixtureRequest) -> None:
    """Run cases of the suite that the block defines: plain, with a restart, with a stop."""
    request.getfixturevalue("committed")
    monkeypatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setitem(sys.modules, "mine", SimpleNamespace(MyTransport=MyTransport))
    suite = names["TestMyTransport"]()
    for case in (
        suite.test_a_batch_may_be_published_twice,
        suite.test_what_was_published_survives_a_restart_of_the_server,
        suite.test_a_server_that_is_down_at_the_start_only_delays_messages,
    ):
        with suite.staged(suite.server(MyServer())):
            case()


class Completion(NamedTuple):
    """What a block needs that is only a fragment.

    Fields:
        names: what it uses and does not import.
        use: called afterwards with its names, to use what it only defines.
    """

    names: dict[str, Any]
    use: Callable[[dict[str, Any], pytest.FixtureRequest], None] = lambda names, request: None


def undecorated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a fixture as the function that it is, so that it can be called."""
    return function


COMPLETIONS = {
    "outbox_inbox.conf.faults": Completion({"armed": faults.armed}),
    "outbox_inbox.testing.conformance": Completion(
        {"pytest": SimpleNamespace(fixture=undecorated), "contextmanager": contextmanager},
        run_suite,
    ),
}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.module)
def test_a_code_block_of_a_docstring_runs(block: Block, request: pytest.FixtureRequest) -> None:
    """As it stands, or completed by COMPLETIONS; one that cannot run is a failure."""
    completion = COMPLETIONS.get(block.module, Completion({}))
    names = {"__name__": "docstring", **completion.names}
    exec(compile(block.code, block.module, "exec"), names)  # noqa: S102  it is ours
    completion.use(names, request)


def test_no_completion_is_left_over() -> None:
    """A module that has no block any more needs none."""
    assert set(COMPLETIONS) <= {block.module for block in BLOCKS}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Do it so::\n\n    one()\n\n    two()\n\nOr not.\n", ["one()\n\ntwo()\n\n"]),
        ("Arguments:\n    x: as in::\n\n        one()\n", ["one()\n"]),
        ("```python\none()\n```\n", ["one()\n"]),
        (">>> one()\n1\n>>> two()\n", ["one()\n", "two()\n"]),
        ("Nothing: at all.\n", []),
    ],
)
def test_a_block_is_found(text: str, code: list[str]) -> None:
    """Indented, in the description of an argument, fenced, or as a doctest."""
    assert list(blocks_of(text)) == code
