"""Values that the commands take: durations, counts."""

import re
from argparse import ArgumentTypeError
from datetime import timedelta

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """Return a duration such as ``90s``, ``15m``, ``12h``, ``7d``, ``2w``, or ``1d12h``.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not re.fullmatch(r"(\d+(\.\d+)?[smhdw])+", text):
        raise ArgumentTypeError(
            f"{text!r} is no duration; expected a number with its unit: 90s, 15m, 12h, 7d, 2w"
        )
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhdw])", text)
    try:
        return sum((timedelta(**{_UNITS[unit]: float(n)}) for n, unit in parts), timedelta())
    except OverflowError as error:
        raise ArgumentTypeError(f"{text!r} is longer than can be reckoned with") from error


def positive(text: str) -> int:
    """Return a whole number from 1.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not re.fullmatch(r"\d{1,18}", text) or int(text) < 1:
        raise ArgumentTypeError(f"{text!r}; expected a whole number from 1")
    return int(text)


def from_zero(text: str) -> int:
    """Return a whole number from 0.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ArgumentTypeError(f"{text!r}; expected a whole number from 0")
    return int(text)


def seconds(text: str) -> float:
    """Return a number of seconds above 0, such as ``0.25``.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) or float(text) <= 0:
        raise ArgumentTypeError(f"{text!r}; expected a number of seconds above 0, such as 0.25")
    return float(text)


def shown(seconds: float | None) -> str:
    """Return an age in a form for people: ``0.4 s``, ``12 s``, ``3 min``, ``5.2 h``, ``4.1 d``."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 1440:.1f} d"
