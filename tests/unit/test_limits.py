"""The limits that CONTRIBUTING sets: small modules, short functions, names that are nouns."""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "outbox_inbox"
MODULES = sorted(
    path for path in PACKAGE.rglob("*.py") if "migrations" not in path.relative_to(PACKAGE).parts
)
"""Django writes migrations, and one of many operations cannot be split."""

CODE_IN_A_MODULE = 250
CODE_IN_A_FUNCTION = 40
LINES_IN_A_TEST_MODULE = 500
NAMES_IN_THE_PACKAGE = 23

ACTIVITIES = {
    "announcing",
    "comparing",
    "counting",
    "declaring",
    "dispatching",
    "draining",
    "escaping",
    "listing",
    "locking",
    "logging",
    "outgoing",
    "pausing",
    "projecting",
    "pruning",
    "rebasing",
    "rebuilding",
    "recording",
    "relaying",
    "rendering",
    "repartitioning",
    "routing",
    "running",
    "scheduling",
    "signing",
    "testing",
    "wording",
}
"""Names in -ing that are allowed, because they are words of the trade.

Any other module is named after a thing: ``looking`` or ``handing`` does not say what is looked at or
handed over.
"""

_NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def lines_of_code(source: str) -> set[int]:
    """Return the numbers of the lines with code: no blank lines, comments and docstrings."""
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NOT_CODE:
            found.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return found


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the functions and methods of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def name(path: Path) -> str:
    """Return the name of a file as a failure shows it."""
    return str(path.relative_to(ROOT))


def over(counts: dict[str, int], limit: int) -> dict[str, int]:
    """Return those of some counts that are over a limit."""
    return {place: count for place, count in counts.items() if count > limit}


def test_the_count_leaves_out_blank_lines_comments_and_docstrings():
    """The limit is one of code: explaining a line does not make a module too long."""
    source = '"""Doc.\n\nMore.\n"""\n\n# why\nX = """a\nb"""\n"""What X is."""\n\n\ndef f():\n    """Doc."""\n    return X  # why\n'
    assert lines_of_code(source) == {7, 8, 12, 14}


def test_a_module_has_at_most_250_lines_of_code():
    """A module does one job, so that a reader can take it in at once."""
    counts = {name(path): len(lines_of_code(path.read_text(encoding="utf-8"))) for path in MODULES}
    assert over(counts, CODE_IN_A_MODULE) == {}


def test_a_function_has_at_most_40_lines_of_code():
    """A function fits on a screen."""
    counts = {}
    for path in MODULES:
        source = path.read_text(encoding="utf-8")
        code = lines_of_code(source)
        for each in functions(ast.parse(source)):
            lines = set(range(each.lineno, (each.end_lineno or each.lineno) + 1))
            counts[f"{name(path)}:{each.lineno} {each.name}"] = len(code & lines)
    assert over(counts, CODE_IN_A_FUNCTION) == {}


def test_a_test_module_has_at_most_500_lines():
    """A test module is about one thing, which its name says."""
    counts = {
        name(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in ROOT.glob("tests/**/test_*.py")
    }
    assert over(counts, LINES_IN_A_TEST_MODULE) == {}


def test_the_package_has_at_most_23_names():
    """The file list of the package fits on a screen and reads like a picture of the pattern.

    Names are those that can be imported: ``static``, ``templates`` and ``py.typed`` are where Django
    and type checkers look for them.
    """
    names = {
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").exists())
    }
    assert len(names) <= NAMES_IN_THE_PACKAGE, sorted(names)


def test_a_module_is_named_after_a_thing():
    """A file list in which modules are called by bare verbs does not say where to look."""
    modules = {path.parent if path.stem == "__init__" else path for path in MODULES}
    found = {path.stem: name(path) for path in modules if path.stem.endswith("ing")}
    assert found.keys() - ACTIVITIES == set(), found
