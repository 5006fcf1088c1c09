import json
import re
import sys
import unicodedata
from pathlib import Path

import pytest

import outbox_inbox
from outbox_inbox.signals.escaping import (
    has_invisible,
    json_text,
    quoted,
    visible,
    visible_json,
    visible_lines,
)

PACKAGE = Path(outbox_inbox.__file__).parent
HOSTILE = "a\x1b[2J\x9b31m\nb\r\tc\0d\u202ee\u200bf\ud800g\U000e0041h"
SIGNS = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
"""Of the category "format", and yet with a glyph: signs of Arabic, Syriac and Kaithi."""


def test_no_character_without_a_glyph_is_left():
    """Controls, formats, separators and surrogates: all of those in Unicode."""
    kinds = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    every = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in kinds]
    assert len(every) > 2_000
    assert [ascii(c) for c in every if visible(c) == c and c not in SIGNS] == []


@pytest.mark.parametrize(
    "character", ["\u034f", "\u115f", "\u17b4", "\u180b", "\u3164", "\ufe0f", "\uffa0", "\U000e0100"], ids=ascii
)  # fmt: skip
def test_a_letter_that_shows_nothing_is_not_left(character):
    """Fillers and variation selectors: two texts with and without one look alike."""
    assert visible(f"a{character}") == f"a{ascii(character)[1:-1]}"


@pytest.mark.parametrize("text", ["", "plain", "naïve Ünï ☃ 東京 😀", "a\\nb", "'\"<>&", "a\xa0b"])
def test_an_ordinary_text_stays_as_it_is(text):
    """Letters of every script, pictures, quotes and backslashes."""
    assert (visible(text), visible_lines(text), has_invisible(text)) == (text, text, False)


def test_a_text_becomes_one_line():
    """With the escapes that Python has."""
    assert visible(HOSTILE) == (r"a\x1b[2J\x9b31m\nb\r\tc\x00d\u202ee\u200bf\ud800g\U000e0041h")


def test_lines_stay_lines():
    """A traceback keeps its lines and tabs, and nothing else."""
    assert visible_lines("a\n\tb\r\x1b") == "a\n\tb\\r\\x1b"


def test_what_is_visible_stays_as_it_is():
    """So a text may pass through several places that make it visible."""
    assert visible(visible(HOSTILE)) == visible(HOSTILE)


def test_a_long_text_is_cut():
    """And the line says how long it was."""
    assert visible("x" * 1_000_000) == "x" * 200 + "… (1,000,000 characters)"


def test_the_bound_may_be_another_one_or_none():
    """As much as a place has room for."""
    assert visible("abc", 2) == "ab… (3 characters)"
    assert visible("x" * 1_000, None) == "x" * 1_000


def test_a_quoted_text_is_visible():
    """In quotes."""
    assert quoted("a\n") == r"'a\n'"


@pytest.mark.parametrize("options", [{}, {"indent": 2}])
def test_json_is_the_same_to_a_parser(options):
    """And has nothing that a terminal obeys."""
    value = {HOSTILE.replace("\ud800", ""): ["ä\u202e\U000e0041", 1]}
    shown = json_text(value, **options)
    assert json.loads(shown) == value
    assert not has_invisible(shown)
    assert "ä" in shown


def test_a_json_text_is_escaped_in_its_own_way():
    """A payload that is stored stays the same value."""
    text = '{"a":\n"\u202e\U000e0041\x7f"}'
    assert json.loads(visible_json(text)) == json.loads(text)
    assert visible_json(text) == '{"a":\n"\\u202e\\udb40\\udc41\\u007f"}'


def test_every_logger_makes_its_entries_visible():
    """A logger that a module makes by itself would write what comes from outside as it is."""
    own = [
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        if re.search(r"\bgetLogger\(", file.read_text(encoding="utf-8"))
    ]
    assert own == ["signals/logging.py"]
