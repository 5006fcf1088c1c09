"""Show stored texts, states and times on admin pages.

Payloads come from other contexts and other systems, and an operator looks at exactly those that no
parser reads. Whatever is stored, a page must show it unchanged and escaped, in bounded time and
size. A character that is not visible is shown as its escape, since it could hide something, or change
the direction of the page's text.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from outbox_inbox.signals.escaping import visible, visible_json, visible_lines

MOST_INDENTED = 262_144
"""Characters of the longest JSON text that is indented."""
MOST_SHOWN = 4 * MOST_INDENTED
"""Characters of a text that a page shows at most."""
MOST_OF_LINE = 1_000
"""Characters of a text on one line."""
IDLE_STATES = ("pending", "ready")
"""The states of a row that a worker takes next, or when it is due."""
EMPTY = SafeString("-")
"""Shown where a row has no value."""

# Possessive: a string that is never closed fails at once instead of being tried in parts.
_STRING_OR_SPACE = re.compile(r'("[^"\\]*+(?:\\.[^"\\]*+)*+")|[ \t\r\n]++')


def indented(text: str) -> str:
    """Return a JSON text with one value a line; any text that this would change, unchanged.

    A parser drops names given twice and rewrites numbers. An operator has to see them as stored.
    """
    # An ASCII text has its other characters as escapes, and keeps them.
    encoder = json.JSONEncoder(indent=2, ensure_ascii=text.isascii())
    parts: list[str] = []
    size = 0
    try:
        for part in encoder.iterencode(json.loads(text)):
            parts.append(part)
            # Deep nesting multiplies the length: stop before it fills the memory.
            size += len(part)
            if size > MOST_SHOWN:
                return text
    except (ValueError, RecursionError):
        return text
    result = "".join(parts)
    return result if _without_space(result) == _without_space(text) else text


def _without_space(text: str) -> str:
    return _STRING_OR_SPACE.sub(r"\1", text)


def document(text: str) -> SafeString:
    """Show a payload or headers; an invisible character becomes an escape of JSON."""
    laid_out = indented(text) if len(text) <= MOST_INDENTED else text
    return _preformatted(laid_out, visible_json)


def preformatted(text: str) -> SafeString:
    """Show a text as it is, escaped; only the beginning of a very long one, with a note."""
    return _preformatted(text, visible_lines)


def _preformatted(text: str, escape: Callable[[str], str]) -> SafeString:
    beginning = escape(text[:MOST_SHOWN])[:MOST_SHOWN]
    shown = format_html('<pre class="oi-text" dir="ltr" tabindex="0">{}</pre>', beginning)
    if len(text) <= MOST_SHOWN:
        return shown
    note = _("The first %(shown)s of %(all)s characters.")
    return noted(note, MOST_SHOWN, len(text), shown)


def full_error(text: str) -> SafeString:
    """Show an error in full, if there is one."""
    return preformatted(text) if text else EMPTY


def noted(note: str, shown: int, all_: int, text: SafeString) -> SafeString:
    """Show the beginning of a text below a note that says how much of it this is."""
    sizes = {"shown": f"{shown:,}", "all": f"{all_:,}"}
    return format_html('<p class="help">{}</p>{}', note % sizes, text)


def excerpt(text: str, length: int = 90) -> str:
    """Return the first line of a text, shortened."""
    line = visible(text.strip().partition("\n")[0], None)
    return line if len(line) <= length else f"{line[: length - 1]}…"


def line(value: object) -> str:
    """Show a text from outside, such as a key, on one line; "-" in place of an empty one."""
    return EMPTY if value is None else visible(value, MOST_OF_LINE) or EMPTY


def link(address: str, text: object) -> SafeString:
    """Show a text that leads to an address."""
    shown = text if isinstance(text, SafeString) else visible(text, MOST_OF_LINE)
    return format_html('<a href="{}">{}</a>', address, shown)


def dotted_name(text: str) -> SafeString:
    """Show a dotted name that a browser breaks after dots and underscores only."""
    parts = re.split(r"(?<=[._])", visible(text, MOST_OF_LINE))
    return format_html_join(SafeString("<wbr>"), "{}", ((part,) for part in parts))


def badge(value: str, label: Any) -> SafeString:
    """Show a state as a badge; the style sheet has its colours for light and dark mode."""
    return format_html('<span class="oi-state oi-{}">{}</span>', value, label)


def state_badge(row: Any) -> SafeString:
    """Show the stored state of a row as a badge."""
    return badge(row.state, row.get_state_display())


def progress_badge(row: Any) -> SafeString:
    """Show the state of a row, and the due time of one that is scheduled or backing off."""
    due = getattr(row, "due_at", None)
    if due is None or row.state not in IDLE_STATES:
        return state_badge(row)
    shown = state_badge(row)
    if row.attempts:
        shown = badge("backing-off", _("backing off"))
    elif time_until(due) > timedelta(0):
        shown = badge("scheduled", _("scheduled"))
    return detailed(shown, moment(due))


def detailed(shown: SafeString, *details: object) -> SafeString:
    """Show a badge with details in small print."""
    lines = format_html_join("", ' <span class="oi-due">{}</span>', ((each,) for each in details))
    return format_html("{}{}", shown, lines)


def moment(at: datetime | None) -> SafeString:
    """Show a time by its distance from now, with the full time in the title."""
    if at is None:
        return EMPTY
    local = timezone.localtime(at) if timezone.is_aware(at) else at
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        at.isoformat(),
        local.isoformat(sep=" ", timespec="seconds"),
        distance(time_until(at)),
    )


def time_until(at: datetime) -> timedelta:
    """Return how far an aware or naive time is ahead of now; negative if it is past."""
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
            return (_("in %s") if seconds > 0 else _("%s ago")) % amount
    return _("now")
