"""Numbers, ages and states as an operator reads them."""

from datetime import datetime


def counted(number: int, one: str, several: str | None = None) -> str:
    """Return a number with its noun: "1 message", "1,203 messages"."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def figure_text(number: int, *, minimum: bool) -> str:
    """Return a figure: "1,203"; one that was counted up to its limit: "more than 10,000"."""
    return f"more than {number:,}" if minimum else f"{number:,}"


def age_text(seconds: float | None) -> str:
    """Return an age: ``0.4 s``, ``12 s``, ``3 min``, ``5.2 h``, ``4.1 d``; None: ``-``."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 1440:.1f} d"


def state_text(state: str, until: datetime | None = None) -> str:
    """Return the state of a partition or a read model, and the time of its next try."""
    return state if until is None else f"{state} until {until:%Y-%m-%d %H:%M:%S} UTC"


def back_off_text(state: str, until: datetime | None, failed: str) -> str:
    """Return the same with what has failed in a row, such as "3 outages"; "" if nothing has."""
    text = state_text(state, until)
    if not failed:
        return text
    due = "" if until or state != "backing off" else "; the next try is due"
    return f"{text} ({failed} in a row{due})"
