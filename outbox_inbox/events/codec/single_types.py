"""The single values that a field may hold, and how each is written as JSON.

What pydantic reads strictly from this text is exactly what was written:

- A Decimal is a string with its exponent and trailing zeros, a float its shortest exact text.
- A datetime is aware and keeps its instant, its microseconds and its UTC offset, which comes back
  as a fixed offset: the name of the time zone is not kept. (Python calls a time in the hour that
  summer time repeats unequal to any time of another zone, even at the same instant.)
- A time has no time zone, and no mark (``fold``) of an hour that comes twice.
- A timedelta is an ISO 8601 duration of days and seconds.
- An Enum member is its value, a str or an int.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from json.encoder import encode_basestring
from types import NoneType
from typing import Any, Final
from uuid import UUID

from .field_types import FieldType, Refused, stands_for
from .json_text import text_problem


class Single(FieldType):
    """One value that is written as one JSON text, number or constant."""

    def __init__(
        self,
        python: type[Any],
        json: Iterable[str],
        write: Callable[[Any], str],
        *,
        zoned: bool = False,
    ) -> None:
        self.python = python
        self.json = frozenset(json)
        self.zoned = zoned
        self.title = "None" if python is NoneType else python.__name__
        self.write = write

    def dump(self, value: Any) -> str:
        if type(value) is not self.python:
            value = self.plain(value)
        return self.write(value)

    def plain(self, value: Any) -> Any:
        """Return a value of another type as one of this type; Refused, unless a subclass can."""
        raise self.expected(value)


class Moment(Single):
    """A date or a datetime; one of a subclass that adds nothing is taken for it."""

    def plain(self, value: Any) -> Any:
        if not stands_for(value, self.python):
            raise self.expected(value)
        text = self.python.isoformat(value)
        if value.isoformat() != text:
            raise Refused(f"{type(value).__name__} holds more than a {self.title}")
        return self.python.fromisoformat(text)


def _text(value: str) -> str:
    if "\0" in value or not value.isascii():
        problem = text_problem(value)
        if problem:
            raise Refused(problem)
    return encode_basestring(value)


def _whole(value: int) -> str:
    if not -_TOO_LONG < value < _TOO_LONG:
        raise Refused("has more than 4,300 digits")
    return str(value)


def _float(value: float) -> str:
    if not math.isfinite(value):
        raise Refused(f"{value} is not a finite number")
    return repr(value)


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise Refused(f"{value} is not a finite number")
    return f'"{value}"'


def _datetime(value: datetime) -> str:
    offset = value.utcoffset()
    if offset is None:
        raise Refused("is naive; a datetime needs a time zone")
    if offset.seconds % 60 or offset.microseconds:
        raise Refused(f"has the UTC offset {offset}; RFC 3339 has whole minutes: convert it to UTC")
    return f'"{value.isoformat()}"'


def _time(value: time) -> str:
    if value.tzinfo is not None:
        raise Refused("has a time zone; a time without a date has no UTC offset to keep")
    return f'"{value.isoformat()}"'


def _timedelta(value: timedelta) -> str:
    # Days and seconds only: the months and years of ISO 8601 have no fixed length.
    sign, value = ("-", -value) if value.days < 0 else ("", value)
    fraction = f".{value.microseconds:06}" if value.microseconds else ""
    return f'"{sign}P{value.days}DT{value.seconds}{fraction}S"'


_TOO_LONG: Final = 10**4_300  # By default Python does not read longer numbers.

TEXT: Final = Single(str, ["text"], _text)

#: The single types by their Python type.
SINGLES: Final[Mapping[type, Single]] = {
    single.python: single
    for single in (
        TEXT,
        Single(int, ["number"], _whole),
        Single(float, ["number"], _float),
        Single(bool, ["constant"], lambda value: "true" if value else "false"),
        Single(NoneType, ["null"], lambda _: "null"),
        Single(Decimal, ["text", "number"], _decimal),
        Moment(date, ["text"], lambda value: f'"{value.isoformat()}"'),
        Moment(datetime, ["text"], _datetime, zoned=True),
        Single(time, ["text"], _time, zoned=True),
        Single(timedelta, ["text"], _timedelta),
        Single(UUID, ["text"], lambda value: '"' + str(value) + '"'),
    )
}


def enum_type(python: type[Enum]) -> Single:
    """Return the type of an Enum's members.

    Raises:
        Refused: not all its values can be stored.
    """
    if issubclass(python, Flag):
        raise Refused("a Flag has values without a name; use list[Enum]")
    # pydantic takes true and false for 1 and 0 here, and only here.
    kinds = {str: ["text"], int: ["number", "constant"]}
    for member in python:
        value = member.value
        if type(value) not in kinds or (type(value) is int and value.bit_length() >= 64):
            raise Refused(f"{member} is {value!r}, not a str or an int of 64 bits")
    texts = {member.name: SINGLES[type(member.value)].dump(member.value) for member in python}

    def write(member: Enum) -> str:
        text = texts.get(member.name)
        if text is None:
            raise Refused(f"{member!r} is not a member of {python.__name__}")
        return text

    return Single(python, {kind for each in python for kind in kinds[type(each.value)]}, write)
