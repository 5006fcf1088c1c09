"""The options that several commands share, and the types of their values.

Each type refuses a wrong value with what it expects, before a command has changed anything.
"""

import re
from argparse import Action, ArgumentError, ArgumentTypeError, Namespace
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from outbox_inbox.conf.times import MOST
from outbox_inbox.contexts import Context, contexts, get_context

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SHARED: dict[str, dict[str, Any]] = {
    "--context": {
        "action": "append",
        "metavar": "LABEL",
        "help": "work on this context; repeat the option for several; default: all contexts",
    },
    "--format": {
        "choices": ("text", "json"),
        "default": "text",
        "help": "print text, or one JSON document and nothing else; default: text",
    },
    "--dry-run": {
        "action": "store_true",
        "help": "change nothing, and report what would change",
    },
}


def add_shared(parser: Any, *names: str) -> None:
    """Add options that several commands share."""
    for name in names:
        parser.add_argument(name, **_SHARED[name])


class _StoreOnce(Action):
    """Stores the value of an option, which is refused when it is given twice.

    By default the last value wins in silence, and an operator who names two contexts or two keys
    believes that both were meant.
    """

    _filled: Namespace | None = None

    def __call__(
        self, parser: Any, namespace: Namespace, values: Any, option_string: str | None = None
    ) -> None:
        """Store the value in the namespace."""
        if self.option_strings and self._filled is namespace:
            raise ArgumentError(self, "given twice, but it takes one value: run the command twice")
        self._filled = namespace
        setattr(namespace, self.dest, values)


def refuse_repetition(parser: Any) -> None:
    """Let all options that a parser gets from now on be given once; lists and flags as before."""
    for name in (None, "store"):
        parser.register("action", name, _StoreOnce)


def duration(text: str) -> timedelta:
    """Return a duration such as ``90s``, ``15m``, ``12h``, ``7d``, ``2w``, or ``1d12h``."""
    if not re.fullmatch(r"(\d+(\.\d+)?[smhdw])+", text):
        raise ArgumentTypeError(
            f"{text!r} is not a duration; expected a number with its unit: 90s, 15m, 12h, 7d, 2w"
        )
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhdw])", text)
    try:
        found = sum((timedelta(**{_UNITS[unit]: float(n)}) for n, unit in parts), timedelta())
    except OverflowError:
        found = timedelta.max
    if found > MOST:
        raise ArgumentTypeError(f"{text!r} is too long a duration; the longest is {MOST.days}d")
    return found


def whole_number(least: int) -> Callable[[str], int]:
    """Return a type that takes a whole number from ``least``, which is 0 or more."""

    def number(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < least:
            raise ArgumentTypeError(f"{text!r}; expected a whole number from {least}")
        return int(text)

    return number


def seconds(text: str) -> float:
    """Return a number of seconds above 0, such as ``0.25``."""
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) or float(text) <= 0:
        raise ArgumentTypeError(f"{text!r}; expected a number of seconds above 0, such as 0.25")
    return float(text)


def chosen_contexts(options: dict[str, Any]) -> tuple[Context, ...]:
    """Return the contexts that --context names, each once; without it, all."""
    given: list[str] | str | None = options["context"]
    labels = [given] if isinstance(given, str) else given
    return contexts() if not labels else tuple(map(get_context, dict.fromkeys(labels)))
