"""Escape stored text for a terminal.

Without it, an event could carry escape sequences that rewrite what an operator reads.
"""

import json
import re

# Controls (escape sequences begin with one), line separators, marks that change the direction of
# text or have no width, and halves of a surrogate pair, which cannot be printed.
_INVISIBLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """Return a text on one line, with every invisible character escaped."""
    return _INVISIBLE.sub(lambda found: ascii(found[0])[1:-1], text)


def quoted(text: str) -> str:
    """Return a text in quotes, with every invisible character escaped."""
    return f"'{visible(text)}'"


def json_line(value: object) -> str:
    """Return JSON on one line: the same value to a parser, and harmless to a terminal."""
    return _INVISIBLE.sub(_as_json, json.dumps(value, ensure_ascii=False))


def _as_json(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]
