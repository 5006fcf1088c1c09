"""What people read is plain English: no phrase that CONTRIBUTING rules out, in any text of the project."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
TOOLS = [ROOT / "Makefile", ROOT / "pyproject.toml"]
CODE = [
    path
    for folder in ("outbox_inbox", "context_a", "context_b", "project")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
TEMPLATES = sorted((ROOT / "outbox_inbox").rglob("*.html"))
TESTS = [
    path
    for folder in ("tests", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != Path(__file__).resolve()
]


class Phrase(NamedTuple):
    """A phrase that is not used, and what to write instead."""

    pattern: str
    instead: str


PHRASES = [
    Phrase(r"\bnobody\b", 'name the component: "no worker", "no other process"'),
    Phrase(r"\b(?:some|any|every)body\b", "name the component: the relay, the operator, a process"),
    Phrase(r"\bwhoever\b", "name the component: the caller, a client that ..."),
    Phrase(r"\bwho has\b", '"the worker that holds"'),
    Phrase(r"(?<!there\s)\b(?:is|are) no (?!longer\b|more\b|op\b)\w+", '"is not a", "has no"'),
    Phrase(r"(?<!there\s)\b(?:is|are) (?-i:none)\b", '"is not a", "there is no"'),
    Phrase(r"\blets? go\b|\blets? \w+(?: \w+){0,3} go\b", '"releases", "unblocks"'),
    Phrase(r"\b(?:lies?|lay|lying) (?:in|on|there|behind)\b", '"is in", "is stored in"'),
    Phrase(r"\baside\b", "quarantined, discarded, kept beside"),
    Phrase(r"\b(?:told|tells)\b", "reports, logs, says, shows"),
    Phrase(r"\btell whether\b", '"return whether"'),
    Phrase(r"\bshall\b", '"must", "will", "should"'),
    Phrase(r"\bby and by\b", '"over time"'),
    Phrase(r"\brests\b|\bat rest\b", "backs off, is backing off"),
    Phrase(r"\blets? (?:\w+ ){0,6}?(?<!the\s)rest\b", '"backs off"'),
    Phrase(r"\b(?:held|hold|holds|holding)(?: \w+)? up\b", "blocked, delayed"),
    Phrase(r"\bwhose turn\b", "the next one"),
    Phrase(r"\bat work on\b", '"is working on", "owns"'),
    Phrase(r"\bof late\b", '"recently"'),
    Phrase(r"\bmay do so\b", '"may", "can"'),
]
"""Matched in lower and upper case; a space stands for any white space."""

PERSONS = PHRASES[:3]
"""They hide which component is meant."""

RULES = [(re.compile(each.pattern.replace(" ", r"\s+"), re.IGNORECASE), each) for each in PHRASES]

QUOTES = {
    "CONTRIBUTING.md": (
        re.compile(r"(?<=\n### Before and after\n).*?(?=\n#|\Z)", re.DOTALL),
        re.compile(r"^\|[^|]*\|", re.MULTILINE),
        "the first column of the examples shows what not to write",
    )
}
"""File -> where in it, what of that is not checked, and why."""


class Text(NamedTuple):
    """A text that people read, and the line on which it begins."""

    line: int
    text: str


def read(path: Path) -> str:
    """Return a file without what only quotes, line by line as it was."""
    text = path.read_text(encoding="utf-8")
    if (quotes := QUOTES.get(str(path.relative_to(ROOT)))) is not None:
        where, what, _ = quotes
        text = where.sub(lambda part: what.sub("| |", part[0]), text)
    return text


def texts_of_code(source: str) -> Iterator[Text]:
    """Yield the comments of a module, a block at a time, and its docstrings and other literals."""
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if block and token.start[0] > last + 1:
                yield Text(first, "\n".join(block))
                block = []
            if not block:
                first = token.start[0]
            block.append(token.string.lstrip("#"))
            last = token.start[0]
    if block:
        yield Text(first, "\n".join(block))
    yield from literals(ast.parse(source))


def literals(node: ast.AST) -> Iterator[Text]:
    """Yield the literals below a node; those written side by side are one, and so is an f-string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield Text(node.lineno, node.value)
    elif isinstance(node, ast.JoinedStr):
        parts = (each.value if isinstance(each, ast.Constant) else "{}" for each in node.values)
        yield Text(node.lineno, "".join(map(str, parts)))
        for each in node.values:
            if not isinstance(each, ast.Constant):
                yield from literals(each)
    else:
        for child in ast.iter_child_nodes(node):
            yield from literals(child)


def texts_of_comments(source: str) -> Iterator[Text]:
    """Yield the comments of a file whose comments begin with ``#``, and the help after ``##``."""
    for number, line in enumerate(source.splitlines(), 1):
        _, mark, comment = line.partition("#")
        if mark:
            yield Text(number, comment.lstrip("#"))


def found_in(path: Path, among: Sequence[Phrase] = PHRASES) -> list[str]:
    """Return each forbidden phrase of a file: where it is, and what to write instead."""
    source = read(path)
    if path.suffix == ".py":
        texts = list(texts_of_code(source))
    elif path in TOOLS:
        texts = list(texts_of_comments(source))
    else:
        texts = [Text(1, source)]
    lines = source.splitlines()
    return [
        f"{path.relative_to(ROOT)}:{line_of(lines, each, match)}: "
        f'"{" ".join(match[0].split())}"; write instead: {phrase.instead}'
        for each in texts
        for rule, phrase in RULES
        if phrase in among
        for match in rule.finditer(each.text)
    ]


def line_of(lines: list[str], text: Text, match: re.Match[str]) -> int:
    """Return the line of a match: a literal in several pieces begins above it."""
    start = text.line + text.text[: match.start()].count("\n")
    word = match[0].split()[0].lower()
    near = range(start, min(start + 15, len(lines) + 1))
    return next((number for number in near if word in lines[number - 1].lower()), start)


def report(paths: list[Path], among: Sequence[Phrase] = PHRASES) -> str:
    """Return what is found in some files, a line each; empty when there is nothing."""
    found = [line for path in paths for line in found_in(path, among)]
    return "\n".join([*found, f"{len(found)} phrases"]) if found else ""


def test_the_documentation_is_plain_english():
    """Also what the comments of the project's own tools say."""
    assert report([*PAGES, *TOOLS]) == ""


def test_the_package_and_the_examples_are_plain_english():
    """Docstrings, comments, errors, log lines, help and templates."""
    assert report([*CODE, *TEMPLATES]) == ""


def test_the_tests_name_the_component():
    """A sentence about "nobody" leaves open which component acts."""
    assert report(TESTS, PERSONS) == ""


@pytest.mark.parametrize(
    "text",
    [
        "Nobody can.",
        "It is no UUID.",
        "They are no secrets",
        "one that is\nnone",
        "which lets the\nfollowers go",
        "Tell whether it is there",
        "it lies in the outbox",
        "the partition rests",
        "ordering lets partition 0 of its outbox rest",
        "a key is held up",
    ],
)
def test_a_phrase_is_found(text):
    """In upper and lower case, and where a line ends within it."""
    assert [phrase for rule, phrase in RULES if rule.search(text)] != []


@pytest.mark.parametrize(
    "text",
    [
        "There is no context 'shop'",
        "there are no messages",
        "absent if there are none",
        "it is no longer due",
        "beside the outbox",
        "`at` is None",
        "the rest of the page",
        "lets the rest pass",
        "upholds",
    ],
)
def test_a_good_phrase_is_left_alone(text):
    """A rule that finds too much would be worked around."""
    assert [phrase for rule, phrase in RULES if rule.search(text)] == []


def test_a_match_in_code_is_found_where_it_is():
    """Comments of several lines, docstrings, literals in pieces and f-strings."""
    source = 'X = 1  # fine\n\n# no\n# body, nobody\ny = (\n    "a"\n    f"{X} so it is "\n    "no UUID"\n)\n'
    lines = source.splitlines()
    found = [
        (line_of(lines, text, match), match[0])
        for text in texts_of_code(source)
        for rule, _ in RULES
        for match in rule.finditer(text.text)
    ]
    assert found == [(4, "nobody"), (7, "is no UUID")]


def test_each_exemption_is_needed():
    """A quotation that is gone takes its exemption along."""
    for name, (where, what, reason) in QUOTES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        quoted = " ".join(what.findall("".join(where.findall(text))))
        assert [rule for rule, _ in RULES if rule.search(quoted)], (name, reason)
