"""How a stored row is shown: text that nobody has vouched for, states, times and ids.

Payloads are shown as they are stored. They are laid out, never parsed: a document that no parser
takes (2,000 levels deep, no JSON at all) is just what an operator has to look at, and numbers,
duplicate names and escapes must be seen as they are.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

SHOWN = 262_144
"""Characters of a text that are shown at most."""
NOTHING = SafeString("-")
"""Shown where there is nothing to show."""

_GROWTH = 4  # a document may become so many times longer by being indented
_DEEPEST = 24  # levels that are indented; deeper ones stay at the last column

# Possessive: a string that is never closed fails at once instead of being tried in parts.
_TOKEN = re.compile(
    r"[ \t\r\n]*+(?:"
    r'(?P<scalar>"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?\d++(?:\.\d++)?+(?:[eE][+-]?\d++)?+|true|false|null)'
    r"|(?P<open>[\[{])|(?P<close>[\]}])|(?P<comma>,)|(?P<colon>:)|(?P<end>\Z))",
    re.DOTALL,
)
_CLOSER = {"[": "]", "{": "}"}
_BEGINS = {"scalar", "open"}
_ENDS = {"scalar", "close"}


class NotJson(ValueError):
    """The text is not made of JSON's parts, or they do not stand together like JSON's."""


def indented(text: str) -> str:
    """Return a JSON text with one value a line, indented; any other text as it is.

    Takes time proportional to the text's length, whatever its nesting.
    """
    lines: list[str] = []
    size = 0
    try:
        for line in _lines(text):
            lines.append(line)
            size += len(line) + 1
            if size > SHOWN * _GROWTH:
                return text
    except NotJson:
        return text
    return "\n".join(lines)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    before = "comma"
    while True:
        found = _TOKEN.match(text, position)
        kind = found.lastgroup if found else None
        if found is None or kind is None or (kind in _BEGINS and before in _ENDS):
            raise NotJson
        yield kind, found[kind]
        if kind == "end":
            return
        position, before = found.end(), kind


def _lines(text: str) -> Iterator[str]:
    line, before = "", ""
    closers: list[str] = []
    for kind, token in _tokens(text):
        if kind == "close" and (not closers or closers.pop() != token):
            raise NotJson
        # A line ends after a comma and inside brackets, unless there is nothing in them.
        if before == "comma" or (before == "open") != (kind == "close"):
            yield line
            line = _margin(closers)
        line += ": " if kind == "colon" else token
        if kind == "open":
            closers.append(_CLOSER[token])
        before = kind
    if closers:
        raise NotJson
    yield line


def _margin(closers: list[str]) -> str:
    return "  " * min(len(closers), _DEEPEST)


def document(text: str) -> SafeString:
    """Show a payload or headers."""
    return preformatted(indented(text) if len(text) <= SHOWN else text)


def preformatted(text: str) -> SafeString:
    """Show a text as it is, escaped; of a very long one the beginning, and say so."""
    shown = format_html(
        '<pre class="oi-text" dir="ltr" tabindex="0">{}</pre>', text[: SHOWN * _GROWTH]
    )
    if len(text) <= SHOWN * _GROWTH:
        return shown
    note = _("The first %(shown)s of %(all)s characters.") % {
        "shown": f"{SHOWN * _GROWTH:,}",
        "all": f"{len(text):,}",
    }
    return format_html('<p class="help">{}</p>{}', note, shown)


def excerpt(text: str, length: int = 90) -> str:
    """Return the first line of a text, shortened."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= length else f"{line[: length - 1]}…"


def name(text: str) -> SafeString:
    """Show a dotted name, which breaks after its dots and underscores rather than anywhere."""
    parts = re.split(r"(?<=[._])", text)
    return format_html_join(SafeString("<wbr>"), "{}", ((part,) for part in parts))


def state(value: str, label: Any) -> SafeString:
    """Show a state as a badge; its colours are in the style sheet, for light and dark mode."""
    return format_html('<span class="oi-state oi-{}">{}</span>', value, label)


def moment(at: datetime | None) -> SafeString:
    """Show a time by its distance from now; the full time is in the title."""
    if at is None:
        return NOTHING
    local = timezone.localtime(at) if timezone.is_aware(at) else at
    full = local.isoformat(sep=" ", timespec="seconds")
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        at.isoformat(),
        full,
        distance(ahead(at)),
    )


def ahead(at: datetime) -> timedelta:
    """Return how far a time lies ahead of now; negative: it is past. It may be aware or naive."""
    now = datetime.now(UTC)
    zone = timezone.get_default_timezone()
    return at - (now if timezone.is_aware(at) else timezone.make_naive(now, zone))


def distance(delta: timedelta) -> str:
    """Return a distance from now in its largest unit: "3 min ago", "in 2 h"."""
    seconds = delta.total_seconds()
    size = abs(seconds)
    for unit, length in ((_("d"), 86_400), (_("h"), 3_600), (_("min"), 60), (_("s"), 1)):
        if size >= length:
            amount = f"{int(size / length)} {unit}"
            break
    else:
        return _("now")
    return (_("in %s") if seconds > 0 else _("%s ago")) % amount
