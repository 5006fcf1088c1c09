"""What the documentation refers to exists: files, and the tests behind its promises."""

import re
from pathlib import Path

import pytest

from context_a.order import Order

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)]*)?\)")
NAMED = re.compile(r"`(test_\w+)`")


def names_of_tests() -> set[str]:
    """Return the names of all tests."""
    texts = (path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py"))
    shipped = (
        path.read_text(encoding="utf-8") for path in ROOT.glob("outbox_inbox/testing/**/*.py")
    )
    return {name for text in (*texts, *shipped) for name in re.findall(r"def (test_\w+)\(", text)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_to_a_file(page):
    """Nobody is sent to a page that is not there."""
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


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
