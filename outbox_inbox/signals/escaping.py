r"""Make text from outside visible, wherever a person reads it: a log, a terminal, a page, an error.

A type, an id or a key is its sender's text. Raw, a new line in it forges a line of the log, an escape
sequence drives the terminal, a mark of direction makes a payload look other than it is, and a
megabyte is a line of a megabyte. Data stays as it is: JSON documents have escapes of JSON, which a
parser reads back.
"""

import json
import re

MOST = 200
"""Characters of one text from outside that a line shows, by default."""

# What Unicode calls ignorable by default (it has no glyph), controls (escape sequences begin with
# one), separators of lines, marks of annotations and of Egyptian, and halves of surrogate pairs, which
# cannot be printed.
_CHARACTERS = (
    r"\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    r"\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_INVISIBLE = re.compile(f"[{_CHARACTERS}]")
_INVISIBLE_IN_LINES = re.compile(rf"(?![\t\n])[{_CHARACTERS}]")


def visible(value: object, most: int | None = MOST) -> str:
    """Return a text on one line, with every invisible character escaped as Python writes it.

    What is visible already comes back as it is, so that calling it twice does no harm.

    Arguments:
        value: a text, or anything else that has one.
        most: characters of the text that are shown; None: all.
    """
    return _shortened(_INVISIBLE, value, most)


def visible_lines(value: object, most: int | None = None) -> str:
    """Return a text as `visible` does, but with its new lines and tabs: a traceback, a document."""
    return _shortened(_INVISIBLE_IN_LINES, value, most)


def quoted(value: object) -> str:
    """Return a text in quotes, as `visible` shows it."""
    return f"'{visible(value)}'"


def has_invisible(text: str) -> bool:
    """Return whether a text has a character that is not visible; new lines and tabs are."""
    return _INVISIBLE_IN_LINES.search(text) is not None


def json_text(value: object, **options: object) -> str:
    """Return a value as JSON: the same to a parser, and harmless to a terminal.

    Arguments:
        options: of `json.dumps`, such as ``indent``; without one the JSON is on one line.
    """
    return visible_json(json.dumps(value, ensure_ascii=False, **options))  # type: ignore[arg-type]


def visible_json(text: str) -> str:
    """Return a JSON text with every invisible character as an escape of JSON, except new lines."""
    return _INVISIBLE_IN_LINES.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _shortened(pattern: re.Pattern[str], value: object, most: int | None) -> str:
    text = str(value)
    shown = pattern.sub(lambda found: ascii(found[0])[1:-1], text[:most])
    return shown if most is None or len(text) <= most else f"{shown}… ({len(text):,} characters)"
