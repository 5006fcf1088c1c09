"""Exactly or not at all: searched for counterexamples, over every type that a field may have.

Annotations are texts in this module, as in all modules with this import.
"""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, date, datetime, time, timedelta, timezone  # noqa: F401 - annotations
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, NewType
from uuid import UUID  # noqa: F401 - an annotation names it

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outbox_inbox import DomainEvent, InvalidEvent
from outbox_inbox.events.codec import decode, decode_headers, encode, encode_headers
from outbox_inbox.exceptions import UnreadableMessage
from tests.support.stored import back, class_of


class Colour(Enum):
    RED = "red"
    EMPTY = ""
    NUMBER = 7
    TEXT_OF_NUMBER = "7"


class Size(StrEnum):
    SMALL = "2024-01-01"


class Rank(IntEnum):
    FIRST = 1
    LAST = -(2**40)


Sku = NewType("Sku", str)


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    sku: Sku
    price: Decimal
    tags: tuple[str, ...] = ()


class Chain(DomainEvent):
    value: Chain | None
    more: list[Chain] = dataclasses.field(default_factory=list)


OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(timezones=st.just(UTC) | OFFSETS)
TEXTS = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"))
WHOLES = st.integers() | st.integers(-(10**50), 10**50)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
EXTREME_DECIMALS = st.builds(
    lambda sign, digits, exponent: Decimal((sign, digits, exponent)),
    st.integers(0, 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=60).map(tuple),
    st.integers(-10_000, 10_000),
)
POINTS = st.builds(Point, x=WHOLES, y=st.none() | FLOATS)
LINES = st.builds(Line, sku=TEXTS, price=DECIMALS, tags=st.lists(TEXTS, max_size=2).map(tuple))
CHAINS = st.recursive(
    st.just(Chain(value=None)),
    lambda inner: st.builds(Chain, value=st.none() | inner, more=st.lists(inner, max_size=2)),
    max_leaves=10,
)

BY_ANNOTATION: dict[str, st.SearchStrategy[Any]] = {
    "str": TEXTS,
    "int": WHOLES,
    "float": FLOATS,
    "bool": st.booleans(),
    "Decimal": DECIMALS | EXTREME_DECIMALS,
    "date": st.dates(),
    "datetime": MOMENTS,
    "time": st.times(),
    "timedelta": st.timedeltas(),
    "UUID": st.uuids(),
    "Colour": st.sampled_from(Colour),
    "Size | None": st.none() | st.sampled_from(Size),
    "Rank | None": st.none() | st.sampled_from(Rank),
    "Sku": TEXTS,
    "Decimal | None": st.none() | DECIMALS,
    "int | str | None": st.none() | WHOLES | TEXTS | WHOLES.map(str),
    "list[Decimal | None]": st.lists(st.none() | DECIMALS),
    "tuple[int, ...]": st.lists(WHOLES).map(tuple),
    "tuple[int, str, None]": st.tuples(WHOLES, TEXTS, st.none()),
    "dict[str, list[float]]": st.dictionaries(TEXTS, st.lists(FLOATS)),
    "list[Line]": st.lists(LINES),
}
ALWAYS_STORABLE: dict[type[DomainEvent], st.SearchStrategy[Any]] = {
    **{class_of(text, __name__): values for text, values in BY_ANNOTATION.items()},
    Chain: st.none() | CHAINS,
}
SOMETIMES_STORABLE = [
    "bool | int | float | Decimal",
    "date | datetime | time | timedelta | str",
    "Size | Rank | Colour | UUID | Decimal | str | int",
    "list[int] | tuple[int, ...] | list[str] | tuple[int, str]",
    "Point | Line | dict[str, int] | None",
]
EVENTS = [*ALWAYS_STORABLE, *(class_of(text, __name__) for text in SOMETIMES_STORABLE)]

# Everything that a caller might put in a field, storable or not.
WORDS = st.sampled_from(
    ["2024-01-01", "12:00:00", "2024-01-01T00:00:00Z", "P1D", "1", "-0", "1.50", "red", "true"]
)
ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        WHOLES,
        st.floats(),
        st.text(alphabet=st.characters(), max_size=3),
        WORDS,
        st.binary(max_size=3),
        st.decimals(),
        st.dates(),
        st.datetimes(timezones=st.none() | st.timezones() | OFFSETS),
        st.times(timezones=st.none() | st.just(UTC)),
        st.timedeltas(),
        st.uuids(),
        st.uuids().map(str),
        st.sampled_from([*Colour, *Size, *Rank]),
        POINTS,
        LINES,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(alphabet=st.characters(), max_size=2) | WHOLES, inner, max_size=2),
        st.sets(st.integers(), max_size=2),
    ),
    max_leaves=4,
)


def exact(value: Any) -> Any:
    """Return what distinguishes a value from every other: types and signs too, unlike equality."""
    kind = type(value).__name__
    if dataclasses.is_dataclass(value):
        return kind, [exact(getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, list | tuple):
        return kind, [exact(item) for item in value]
    if isinstance(value, dict):
        return kind, sorted((key, exact(item)) for key, item in value.items())
    if isinstance(value, Decimal):
        return kind, value.as_tuple()
    return kind, value.isoformat() if isinstance(value, datetime | time) else repr(value)


def stored(event: DomainEvent) -> tuple[Any, set[str]]:
    """Return what comes back of an event, or the names of the fields that are refused."""
    try:
        return exact(back(event)), set()
    except InvalidEvent as refused:
        return None, {re.split(r"\W", error)[0] for error in refused.errors}


@pytest.mark.parametrize("cls", ALWAYS_STORABLE, ids=[*BY_ANNOTATION, "Chain"])
def test_comes_back_exactly(cls: type[DomainEvent]) -> None:
    """Every proper value of every type of field is stored, and comes back as it was."""

    @settings(max_examples=60)
    @given(ALWAYS_STORABLE[cls])
    def check(value: Any) -> None:
        event = cls(value=value)
        found = back(event)
        assert (found, exact(found)) == (event, exact(event))

    check()


@settings(max_examples=300)
@given(st.sampled_from(EVENTS), ANYTHING)
def test_exactly_or_not_at_all(cls: type[DomainEvent], value: Any) -> None:
    """Whatever is put into a field is refused by its name, or comes back as it was."""
    outcome, names = stored(cls(value=value))
    assert names == {"value"} if outcome is None else outcome == exact(cls(value=value))


@given(st.data())
def test_text_is_canonical(data: st.DataObject) -> None:
    """An event that was read back is written as the very same text."""
    cls = data.draw(st.sampled_from(list(ALWAYS_STORABLE)))
    text = encode(cls(value=data.draw(ALWAYS_STORABLE[cls])))
    assert encode(decode(cls, text, version=1)) == text


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | WORDS
    | st.text(alphabet=st.characters(), max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["value", "more", "x", "y", "sku"]), inner)
    ),
    max_leaves=8,
)
PIECES = [*'"\\{}[],:\0', "1e999", "\\ud800", "\\u0000", "NaN", "9" * 5_000]


@st.composite
def hostile(draw: st.DrawFn) -> str:
    """Make text that is nearly JSON, and nearly fits."""
    tree = draw(JSON)
    text = json.dumps({"value": tree} if draw(st.booleans()) else tree)
    for piece in draw(st.lists(st.sampled_from(PIECES), max_size=3)):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + piece + text[place + draw(st.integers(0, 3)) :]
    return text


@settings(max_examples=300)
@given(st.sampled_from(EVENTS), hostile())
def test_hostile_text(cls: type[DomainEvent], text: str) -> None:
    """Any text is an event of the class, or an unreadable message."""
    try:
        event = decode(cls, text, version=1)
    except UnreadableMessage:
        return
    assert type(event) is cls


@settings(max_examples=300)
@given(st.sampled_from(list(ALWAYS_STORABLE)), hostile())
def test_what_was_read_can_be_recorded(cls: type[DomainEvent], text: str) -> None:
    """Nothing is read that could not be written: no naive datetime, no number out of range."""
    try:
        event = decode(cls, text, version=1)
    except UnreadableMessage:
        return
    assert exact(back(event)) == exact(event)


@given(st.text(alphabet=st.characters()))
def test_any_text_at_all(text: str) -> None:
    """Text that is not JSON at all is unreadable, and nothing else happens."""
    with pytest.raises(UnreadableMessage):
        decode(class_of(str), text, version=1)


@given(st.dictionaries(st.text(), st.text()))
def test_headers_come_back(headers: dict[str, str]) -> None:
    """Headers of any text come back, or are refused for a NUL."""
    try:
        text = encode_headers(headers)
    except InvalidEvent:
        assert "\0" in "".join([*headers, *headers.values()])
    else:
        assert decode_headers(text) == headers


@given(hostile())
def test_hostile_headers(text: str) -> None:
    """Any text is headers of text, or one unreadable message."""
    try:
        headers = decode_headers(text)
    except UnreadableMessage:
        return
    assert decode_headers(encode_headers(headers)) == headers
