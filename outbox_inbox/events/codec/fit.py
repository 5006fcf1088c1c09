"""Whether a subscriber's view of a contract can read everything that the publisher's class writes.

Types are compared, not constraints: a view may restrict the values that it takes. Single values are
written and read as they would be in a message, so what reads what is not written down here.
"""

import dataclasses
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any, Final
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from .field_types import FieldType, FixedTuple, Items, Mapped, OneOf, Record
from .shapes import event_layout
from .single_types import Single

#: Values of each single type; what reads only some of them as another type does not fit.
_SAMPLES: Final[dict[type, tuple[Any, ...]]] = {
    str: ("", "text"),
    int: (0, -(2**70)),
    float: (0.0, -0.5),
    bool: (True, False),
    NoneType: (None,),
    Decimal: (Decimal(0), Decimal("-0.50")),
    date: (date(2026, 11, 30),),
    datetime: (datetime(2026, 11, 30, 12, 30, 1, 5, tzinfo=timezone(timedelta(hours=5))),),
    time: (time(12, 30, 1, 5),),
    timedelta: (timedelta(days=-1, microseconds=5),),
    UUID: (UUID(int=2**127),),
}
_KINDS: Final = {'"': "text", "t": "constant", "f": "constant", "n": "null"}  # by the first letter

Pairs = frozenset[tuple[int, int]]


def view_problems(published: type, view: type) -> list[str]:
    """Return why messages of a contract cannot all be read as a view of it, by field.

    Raises:
        TypeError: one of the classes has fields of a type that cannot be stored.
    """
    ours, theirs = event_layout(view).record, event_layout(published).record
    return list(_record_problems(theirs, ours, "", frozenset()))


def _record_problems(written: Record, read: Record, path: str, seen: Pairs) -> Iterator[str]:
    if (pair := (id(written), id(read))) in seen:
        return  # a record that refers to itself
    for field in dataclasses.fields(read.python):
        place = f"{path}.{field.name}" if path else field.name
        kind = written.fields.get(field.name)
        if kind is not None:
            yield from _problems(kind, read.fields[field.name], place, seen | {pair})
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            yield f"{place} is required, and is not published"


def _problems(written: FieldType, read: FieldType, place: str, seen: Pairs) -> Iterator[str]:
    if isinstance(written, Record) and isinstance(read, Record):
        yield from _record_problems(written, read, place, seen)
    elif isinstance(written, Items) and isinstance(read, Items):
        yield from _problems(written.item, read.item, f"{place}[]", seen)
    elif isinstance(written, Mapped) and isinstance(read, Mapped):
        yield from _problems(written.value, read.value, f"{place}[]", seen)
    elif not _fits(written, read, seen):
        yield f"{place} is published as {written.title}, and read as {read.title}"


def _fits(written: FieldType, read: FieldType, seen: Pairs) -> bool:
    if isinstance(written, OneOf):
        return all(_fits(each, read, seen) for each in written.choices)
    if isinstance(read, OneOf):
        return _fits_one_of(written, read, seen)
    if isinstance(written, Single):
        return isinstance(read, Single) and all(_reads(each, read) for each in _texts(written))
    if isinstance(written, FixedTuple):
        return _fits_tuple(written, read, seen)
    if isinstance(written, Record) and isinstance(read, Mapped):
        return all(_fits(each, read.value, seen) for each in written.fields.values())
    return type(written) is type(read) and not any(_problems(written, read, "", seen))


def _fits_tuple(written: FixedTuple, read: FieldType, seen: Pairs) -> bool:
    if isinstance(read, Items):
        return all(_fits(each, read.item, seen) for each in written.items)
    return (
        isinstance(read, FixedTuple)
        and len(written.items) == len(read.items)
        and all(_fits(*pair, seen) for pair in zip(written.items, read.items, strict=True))
    )


def _fits_one_of(written: FieldType, read: OneOf, seen: Pairs) -> bool:
    """Return whether each value is read as one of several types, not necessarily the same one."""
    if isinstance(written, Single):
        singles = [each for each in read.choices if isinstance(each, Single)]
        return all(any(_reads(text, each) for each in singles) for text in _texts(written))
    return any(_fits(written, each, seen) for each in read.choices)


def _texts(kind: Single) -> list[str]:
    samples = kind.python if issubclass(kind.python, Enum) else _SAMPLES[kind.python]
    return [kind.dump(each) for each in samples]


def _reads(text: str, kind: Single) -> bool:
    if _KINDS.get(text[0], "number") not in kind.json:
        return False
    try:
        value = TypeAdapter(kind.python).validate_json(text, strict=True)
    except ValidationError:
        return False
    return not any(kind.problems(value, ""))
