"""Checks of a nested setting that collect every problem instead of stopping at the first."""

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from difflib import get_close_matches

_LONG = 32  # bytes from which a key may be a secret


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` when a known word is close to ``word``, else nothing."""
    folded = {name.lower(): name for name in known}
    close = get_close_matches(str(word).lower(), folded, n=1)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""


def suggestion(word: object, known: Collection[str]) -> str:
    """Return the known word that is close to ``word``, as a question, or else all known words."""
    return did_you_mean(word, known) or f"; known: {', '.join(sorted(known)) or 'none'}"


class Section:
    """One dict of a setting: hands out its values checked, and notes what is wrong with them.

    A wrong value is noted in ``problems`` and replaced by the default, so that reading goes on.

    Arguments:
        path: how the user would write it, such as ``OUTBOX_INBOX["PARTITIONS"]``.
        value: what stands there.
        problems: the list that the whole setting shares.
        known: the keys that may occur; None where the keys are the user's own names.
        secret: there are secrets in it: no value is shown, nor a key that may be one.
    """

    def __init__(
        self,
        path: str,
        value: object,
        problems: list[str],
        known: Collection[str] | None = None,
        *,
        secret: bool = False,
    ) -> None:
        self.path = path
        self.problems = problems
        self.secret = secret
        self.values: Mapping[object, object] = {}
        if not isinstance(value, Mapping):
            self.problems.append(f"{path} is {self._shown(value)}; expected a dict")
            return
        self.values = value
        for key in value:
            if not isinstance(key, str):
                self.problems.append(f"{path} has the key {self._shown(key)}; expected a string")
            elif known is not None and key not in known:
                self.problems.append(f"{self.at(key)} is unknown{suggestion(key, known)}")

    def at(self, key: str) -> str:
        """Return the path of a key."""
        # Whoever mixes up a secret and its name must not read it in a log.
        hidden = self.secret and len(key.encode(errors="replace")) >= _LONG
        return f"{self.path}[{json.dumps('…' if hidden else key, ensure_ascii=False)}]"

    def refuse(self, key: str, expected: str) -> None:
        """Note that the value of ``key`` is not what is expected there."""
        shown = self._shown(self.values.get(key))
        self.problems.append(f"{self.at(key)} is {shown}; expected {expected}")

    def _shown(self, value: object) -> str:
        if self.secret and value is not None:
            return f"of type {type(value).__name__} (not shown)"
        return repr(value)

    def section(
        self, key: str, known: Collection[str] | None = None, *, secret: bool = False
    ) -> "Section":
        """Return the dict below ``key``, empty when it is not given."""
        value = self.values.get(key, {})
        return Section(self.at(key), value, self.problems, known, secret=secret or self.secret)

    def names(self) -> list[str]:
        """Return the keys that can be names, in the order given."""
        return [key for key in self.values if isinstance(key, str)]

    def integer(self, key: str, default: int, maximum: int) -> int:
        """Return a whole number from 1 to ``maximum``; True is none."""
        value = self.values.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= maximum:
            return value
        self.refuse(key, f"a whole number from 1 to {maximum:,}")
        return default

    def number(self, key: str, default: float, lowest: float, below: float) -> float:
        """Return a number with ``lowest <= number < below``; True is none."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(key, "a number")
            return default
        if lowest <= value < below:
            return float(value)
        self.refuse(key, f"a number of at least {lowest:g} and less than {below:g}")
        return default

    def duration(self, key: str, default: timedelta, maximum: timedelta) -> timedelta:
        """Return a timedelta longer than zero and not longer than ``maximum``."""
        value = self.values.get(key, default)
        if not isinstance(value, timedelta):
            self.refuse(key, "a timedelta, such as timedelta(seconds=5)")
        elif not timedelta(0) < value <= maximum:
            self.refuse(key, f"a timedelta longer than zero and at most {maximum}")
        else:
            return value
        return default

    def flag(self, key: str, *, default: bool) -> bool:
        """Return True or False."""
        value = self.values.get(key, default)
        if isinstance(value, bool):
            return value
        self.refuse(key, "True or False")
        return default

    def text(self, key: str, expected: str) -> str | None:
        """Return a string that is not empty, or None when the key is missing or None."""
        value = self.values.get(key)
        if value is None or (isinstance(value, str) and value):
            return value
        self.refuse(key, expected)
        return None

    def choice(self, key: str, choices: Collection[str]) -> str | None:
        """Return one of ``choices``, or None when the key is missing or None."""
        value = self.values.get(key)
        if value is None or (isinstance(value, str) and value in choices):
            return value
        names = ", ".join(repr(choice) for choice in choices)
        self.refuse(key, f"one of {names} or None{did_you_mean(value, choices)}")
        return None
