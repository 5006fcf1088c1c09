"""How bytes and attributes are shown that somebody else has made: as what they are, and harmless.

Text is shown as text; whatever a page cannot show as it is (bytes that are no UTF-8, control
characters) is shown as a dump, in which nothing can hide.
"""

import codecs
import json
import re
from collections.abc import Iterator

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from . import rendering

DUMPED = 16_384
"""Bytes of a payload that are dumped at most."""

_WIDTH = 16  # bytes in a line of a dump
_LONGEST = 2_000  # characters of an attribute that are shown
_UNSEEN = re.compile(
    r"[^\t\n\r\x20-\x7e\xa0-\U0010ffff]|[\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def payload(data: bytes, *, complete: bool = True) -> SafeString:
    """Show a payload: JSON laid out, other text as it is, anything else as a dump.

    Arguments:
        complete: false for the beginning of one, which may end within a character.
    """
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data, complete)
    except UnicodeDecodeError:
        return dump(data)
    return dump(data) if _UNSEEN.search(text) else rendering.document(text)


def dump(data: bytes) -> SafeString:
    """Show bytes as numbers, with the letters among them beside."""
    shown = rendering.preformatted("\n".join(_lines(data[:DUMPED])))
    if len(data) <= DUMPED:
        return shown
    note = _("The first %(shown)s of %(all)s bytes.") % {
        "shown": f"{DUMPED:,}",
        "all": f"{len(data):,}",
    }
    return format_html('<p class="help">{}</p>{}', note, shown)


def attributes(stored: str) -> SafeString:
    """Show the attributes of a message as a table, each value on one line."""
    rows = sorted(json.loads(stored).items())
    if not rows:
        return rendering.NOTHING
    cells = format_html_join(
        "", "<tr><th>{}</th><td><code>{}</code></td></tr>", ((line(k), line(v)) for k, v in rows)
    )
    return format_html('<table class="oi-attributes"><tbody>{}</tbody></table>', cells)


def line(value: object) -> str:
    """Return a value on one line, in which everything that cannot be seen is escaped."""
    text = value if isinstance(value, str) else json.dumps(value)
    shown = text[:_LONGEST]
    seen = re.sub(r"[\t\n\r]", _escaped, _UNSEEN.sub(_escaped, shown))
    return seen if len(text) <= _LONGEST else f"{seen}…"


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def _lines(data: bytes) -> Iterator[str]:
    for start in range(0, len(data), _WIDTH):
        part = data[start : start + _WIDTH]
        letters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "·" for byte in part)
        yield f"{start:08x}  {part.hex(' ').ljust(3 * _WIDTH)} {letters}"
