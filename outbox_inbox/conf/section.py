"""Checks of a nested setting that collect all mistakes, so that one start shows every one of them."""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from outbox_inbox.exceptions import SettingsError

_LONG = 32  # bytes from which a key may be a secret
_MOST_HINTS = 20
"""Mistakes of a setting with a hint: to find the close words takes a millisecond each."""
_MOST_SHOWN = 100
"""Mistakes of a setting that its error names."""
_LONGEST_WORD = 100
"""Characters of a word that is compared with known ones; none of these is as long."""
_HARMLESS = re.compile(r"[\w .+,-]{0,40}")
"""A text that cannot be, or contain, a URL with a password."""


def shown(value: object) -> str:
    """Return a value of a setting for an error, or only its type if it may contain a password.

    A URL may be in the wrong place, or in a list, where a word or a number is expected.
    """
    if value is None or isinstance(value, bool | int | float | timedelta):
        return repr(value)
    if isinstance(value, str) and _HARMLESS.fullmatch(value):
        return repr(value)
    return f"of type {type(value).__name__} (not shown)"


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` when a known word is close to ``word``, else nothing."""
    folded = {name.lower(): name for name in known}
    text = str(word)
    close = [] if len(text) > _LONGEST_WORD else get_close_matches(text.lower(), folded, n=1)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""


def suggestion(word: object, known: Collection[str]) -> str:
    """Return the known word that is close to ``word``, as a question, or else all known words."""
    return did_you_mean(word, known) or f"; known: {', '.join(sorted(known)) or 'none'}"


class Section:
    """One dict of a setting: returns its values checked, and collects what is wrong with them.

    A wrong value is added to ``problems`` and replaced by the default, so that reading goes on.

    Arguments:
        path: how the user would write it, such as ``OUTBOX_INBOX["PARTITIONS"]``.
        value: the dict.
        problems: the list that the whole setting shares.
        known: the keys that may occur; None where the user chooses the keys.
        secret: the dict contains secrets: no message shows a value, nor a key that may be one.
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
                self.problems.append(f"{self.path_of(key)} is unknown{self.hint(key, known)}")

    def hint(self, word: object, known: Collection[str]) -> str:
        """Return what `suggestion` does, or nothing for one of very many mistakes."""
        return suggestion(word, known) if len(self.problems) < _MOST_HINTS else ""

    def path_of(self, key: str) -> str:
        """Return the path of a key."""
        # A secret given in the place of its name must not appear in a log.
        long = self.secret and len(key.encode(errors="replace")) >= _LONG
        hidden = long or not _HARMLESS.fullmatch(key)
        return f"{self.path}[{json.dumps('…' if hidden else key, ensure_ascii=False)}]"

    def add_problem(self, key: str, expected: str, *, secret: bool = False) -> None:
        """Report that the value of ``key``, which may be secret, is not what is expected there."""
        found = self._shown(self.values.get(key), secret=secret)
        self.problems.append(f"{self.path_of(key)} is {found}; expected {expected}")

    def _shown(self, value: object, *, secret: bool = False) -> str:
        if (secret or self.secret) and value is not None:
            return f"of type {type(value).__name__} (not shown)"
        return shown(value)

    def section(
        self, key: str, known: Collection[str] | None = None, *, secret: bool = False
    ) -> "Section":
        """Return the dict below ``key``, empty when it is not given."""
        value = self.values.get(key, {})
        return Section(self.path_of(key), value, self.problems, known, secret=secret or self.secret)

    def text_items(self) -> Mapping[str, Any]:
        """Return the items whose keys are strings; their values are not checked."""
        return MappingProxyType({name: self.values[name] for name in self.names()})

    def names(self) -> list[str]:
        """Return the keys that are strings, in the order given."""
        return [key for key in self.values if isinstance(key, str)]

    def integer(self, key: str, default: int, maximum: int) -> int:
        """Return a whole number from 1 to ``maximum``; True is not a number."""
        value = self.values.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= maximum:
            return value
        self.add_problem(key, f"a whole number from 1 to {maximum:,}")
        return default

    def number(self, key: str, default: float, lowest: float, below: float) -> float:
        """Return a number with ``lowest <= number < below``; True is not a number."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.add_problem(key, "a number")
        elif not lowest <= value < below:
            self.add_problem(key, f"a number of at least {lowest:g} and less than {below:g}")
        else:
            return float(value)
        return default

    def duration(self, key: str, default: timedelta, maximum: timedelta) -> timedelta:
        """Return a timedelta longer than zero and not longer than ``maximum``."""
        value = self.values.get(key, default)
        if not isinstance(value, timedelta):
            self.add_problem(key, "a timedelta, such as timedelta(seconds=5)")
        elif not timedelta(0) < value <= maximum:
            self.add_problem(key, f"a timedelta longer than zero and at most {maximum}")
        else:
            return value
        return default

    def flag(self, key: str, *, default: bool) -> bool:
        """Return True or False."""
        value = self.values.get(key, default)
        if isinstance(value, bool):
            return value
        self.add_problem(key, "True or False")
        return default

    def text(self, key: str, expected: str, *, secret: bool = False) -> str | None:
        """Return a string that is not empty, or None when the key is missing or None."""
        value = self.values.get(key)
        if value is None or (isinstance(value, str) and value):
            return value
        self.add_problem(key, expected, secret=secret)
        return None

    def choice(self, key: str, choices: Collection[str]) -> str | None:
        """Return one of ``choices``, or None when the key is missing or None."""
        value = self.values.get(key)
        if value is None or (isinstance(value, str) and value in choices):
            return value
        names = ", ".join(map(shown, choices))
        hint = did_you_mean(value, choices) if len(self.problems) < _MOST_HINTS else ""
        self.add_problem(key, f"one of {names} or None{hint}")
        return None


@contextmanager
def checked_section(path: str, value: object, known: Collection[str]) -> Iterator[Section]:
    """Yield a `Section` with a list of problems of its own.

    Raises:
        SettingsError: at the end of the block, with the mistakes that were found, one a line; of very
            many only the first ones, and how many more there are.
    """
    problems: list[str] = []
    section = Section(path, value, problems, known)
    del value  # an error page shows the variables of each function that an error has come through
    yield section
    if more := problems[_MOST_SHOWN:]:
        problems[_MOST_SHOWN:] = [f"and {len(more):,} more mistakes"]
    if problems:
        raise SettingsError("\n".join(problems))
