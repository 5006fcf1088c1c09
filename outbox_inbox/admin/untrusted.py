"""Show bytes and attributes that another system has sent, so that they cannot do harm.

Bytes that are not UTF-8, and control characters, could hide something or change the direction of
the page's text. They are shown as a hexadecimal dump.
"""

import codecs
import json
import re
from collections.abc import Iterator

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from outbox_inbox.signals.escaping import has_invisible, visible

from . import rendering

MOST_DUMPED = 16_384
"""Bytes of a payload that a dump shows at most."""

_WIDTH = 16  # bytes in a line of a dump
_MOST_OF_ATTRIBUTE = 2_000  # characters of an attribute that are shown
# Parts of letters and pictures, and the line ends of some systems: a text that has no other invisible
# character is still read more easily as text, with these as escapes.
_HARMLESS = re.compile(r"[\r\u200c\u200d\ufe00-\ufe0f]")


def payload(data: bytes, *, complete: bool = True) -> SafeString:
    """Show a payload: JSON indented, other text as it is, anything else as a dump.

    Arguments:
        complete: false if only its beginning is stored, which may end within a character.
    """
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data, complete)
    except UnicodeDecodeError:
        return hex_dump(data)
    hides = has_invisible(_HARMLESS.sub("", text))
    return hex_dump(data) if hides else rendering.document(text)


def hex_dump(data: bytes) -> SafeString:
    """Show bytes as hexadecimal numbers, with the printable ASCII characters beside them."""
    shown = rendering.preformatted("\n".join(_dump_lines(data[:MOST_DUMPED])))
    if len(data) <= MOST_DUMPED:
        return shown
    note = _("The first %(shown)s of %(all)s bytes.")
    return rendering.noted(note, MOST_DUMPED, len(data), shown)


def attributes(stored: str) -> SafeString:
    """Show the attributes of a message as a table, each value on one line."""
    rows = sorted(json.loads(stored).items())
    if not rows:
        return rendering.EMPTY
    cells = format_html_join(
        "",
        "<tr><th>{}</th><td><code>{}</code></td></tr>",
        ((one_line(name), one_line(value)) for name, value in rows),
    )
    return format_html('<table class="oi-attributes"><tbody>{}</tbody></table>', cells)


def one_line(value: object) -> str:
    """Return a value on one line, with every invisible character escaped."""
    return visible(value if isinstance(value, str) else json.dumps(value), _MOST_OF_ATTRIBUTE)


def text_or_dash(text: str) -> str:
    """Return a text on one line, and a dash in place of an empty one."""
    return one_line(text) or "-"


def type_name(text: str) -> SafeString:
    """Return a type on one line that a browser breaks after dots, and a dash for an empty one."""
    return rendering.dotted_name(text_or_dash(text))


def _dump_lines(data: bytes) -> Iterator[str]:
    for start in range(0, len(data), _WIDTH):
        part = data[start : start + _WIDTH]
        letters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "·" for byte in part)
        yield f"{start:08x}  {part.hex(' ').ljust(3 * _WIDTH)} {letters}"
