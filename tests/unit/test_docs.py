"""What the documentation refers to exists: files, and the tests behind its promises."""

import ast
import re
from pathlib import Path

import pytest

from context_a.order import Order

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
PACKAGE = ROOT / "outbox_inbox"
LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)]*))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
PLACE = re.compile(r"`([a-z_/]+(?:\.py|/))(?:::([\w.]+))?`")
NAMED = re.compile(r"`(test_\w+)`")


def names_of_tests() -> set[str]:
    """Return the names of all tests."""
    texts = (path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py"))
    shipped = (
        path.read_text(encoding="utf-8") for path in ROOT.glob("outbox_inbox/testing/**/*.py")
    )
    return {name for text in (*texts, *shipped) for name in re.findall(r"def (test_\w+)\(", text)}


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", each).strip().lower().replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_to_a_file(page):
    """No reader is sent to a page, or to a section of a page, that does not exist."""
    links = LINK.findall(page.read_text(encoding="utf-8"))
    found = [(page.parent / file if file else page, at) for file, at in links if "://" not in file]
    assert [str(file) for file, _ in found if not file.exists()] == []
    assert [(file.name, at) for file, at in found if at and at not in anchors(file)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_promise_has_the_test_that_it_names(page):
    """A test that was renamed or removed is missed where the documentation relies on it."""
    named = set(NAMED.findall(page.read_text(encoding="utf-8")))
    files = {path.stem for path in ROOT.glob("tests/**/test_*.py")}
    assert named - names_of_tests() - files == set()


def test_the_readme_promises_something():
    """The page that is read first says what can be relied on, and which test proves it."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## What is promised")[1]
    assert len(NAMED.findall(section.split("\n## ")[0])) > 10


def names_in(file: Path) -> set[str]:
    """Return what a module defines: functions, classes, methods and attributes of classes."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            members = [each for each in node.body if isinstance(each, ast.FunctionDef)]
            found |= {node.name, *(f"{node.name}.{each.name}" for each in members)}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


@pytest.mark.parametrize("page", ["architecture.md", "glossary.md"])
def test_a_place_in_the_code_exists(page):
    """A function that was renamed or moved is missed where the documentation leads to it."""
    places = PLACE.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    in_package = [(PACKAGE / file, name) for file, name in places if not (ROOT / file).exists()]
    assert [str(file) for file, _ in in_package if not file.exists()] == []
    assert [
        f"{file}::{name}" for file, name in in_package if name and name not in names_in(file)
    ] == []


def test_the_map_of_the_package_is_complete():
    """Each name at the top of the package has its line in the architecture, and no other has one."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    shown = re.findall(r"^([a-z_.]+)/? ", text.split("```text\n")[1].split("```")[0], re.MULTILINE)
    there = {
        path.name
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert sorted(shown) == sorted(there)


def test_each_rule_has_a_place_and_a_test():
    """The ten rules that make the app correct are kept somewhere, and tested."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rules = re.findall(r"^\| (O\d+) \|.*$", text, re.MULTILINE)
    lines = [line for line in text.splitlines() if re.match(r"\| O\d+ \|", line)]
    assert rules == [f"O{number}" for number in range(1, 11)]
    assert [line for line in lines if not (PLACE.search(line) and NAMED.search(line))] == []


def test_the_code_at_the_top_of_the_readme_is_that_of_its_steps():
    """What a reader sees first works: the steps below it are run."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    first, *others = CODE.findall(text)
    functions = [
        each.split("\n", 1)[1].strip()
        for each in re.split(r"^# (?=\w+/)", first, flags=re.MULTILINE)[1:]
    ]
    assert len(functions) == 4
    assert [each for each in functions if not any(each in code for code in others)] == []


CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CITED = re.compile(r"# (\S+\.py)\n")


def test_the_code_of_event_sourcing_is_that_of_the_example():
    """What is cited stands in the file; what is not runs as it is."""
    found = CODE.findall((ROOT / "docs/event-sourcing.md").read_text(encoding="utf-8"))
    cited = [(match[1], code[match.end() :]) for code in found if (match := CITED.match(code))]
    assert len(cited) == 2
    for file, code in cited:
        assert code in (ROOT / file).read_text(encoding="utf-8")
    names = {"Order": Order}
    for code in found:
        if not CITED.match(code):
            exec(code, names)  # noqa: S102  it is ours
    assert names["ORDERS"].snapshot_every == 100
