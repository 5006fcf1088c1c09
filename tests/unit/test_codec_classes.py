import dataclasses
from enum import Enum, Flag
from typing import Annotated, Generic, Literal, TypeVar

import pytest
from pydantic import Field, field_validator

from outbox_inbox import DomainEvent
from outbox_inbox.events.codec import decode, encode, field_problems
from outbox_inbox.exceptions import UnreadableMessage
from tests.support.stored import Card, back, class_of, event_of, refusal


@dataclasses.dataclass
class Mutable:
    x: int


class Doubled(DomainEvent):
    x: int

    def __post_init__(self):
        object.__setattr__(self, "x", self.x * 2)


class Cautious(DomainEvent):
    x: int

    def __post_init__(self):
        if self.x < 0:
            raise LookupError("below zero")


class Upper(DomainEvent):
    x: str

    @field_validator("x")
    @classmethod
    def in_capitals(cls, value):
        return value.upper()


class Renamed(DomainEvent):
    x: Annotated[int, Field(alias="y")]


@pytest.mark.parametrize("event", [Cautious(x=1), Doubled(x=0), Upper(x="A")])
def test_hooks_that_change_nothing(event):
    """A class may check or tidy its values when they are read, as long as they come back."""
    assert back(event) == event


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (Doubled(x=1), "x: would be read back as another value"),
        (Upper(x="a"), "x: would be read back as another value"),
        (Renamed(x=1), "y: Field required (when it is read back)"),
    ],
)
def test_hooks_that_change_a_value(event, error):
    """An event that its own class would change when it is read is refused."""
    assert refusal(event) == [error]


def test_hook_that_raises_when_read():
    """Whatever a class raises while it is read makes the message unreadable."""
    with pytest.raises(UnreadableMessage, match="Cautious raised LookupError: below zero"):
        decode(Cautious, '{"x":-1}', version=1)


T = TypeVar("T")


class Shapeless(DomainEvent, Generic[T]):
    value: T


class Badges(Flag):
    GOLD = 1


class Halves(Enum):
    HALF = 0.5


class Huge(Enum):
    GOOGOL = 10**100


@pytest.mark.parametrize(
    ("hint", "problem"),
    [
        (object, "object is not supported"),
        (set[int], "set[int] is not supported"),
        (bytes, "bytes is not supported"),
        (complex, "complex is not supported"),
        (Literal["a"], "Literal['a'] is not supported"),
        (list, "say what is in the list, such as list[str] or dict[str, int]"),
        (dict[int, str], "dict[int, str]: the keys of a JSON object are str"),
        (list[set[int]], "set[int] is not supported"),
        (dict[str, object] | None, "object is not supported"),
        (Mutable, "Mutable is not frozen: @dataclass(frozen=True)"),
        (Badges, "a Flag has values without a name; use list[Enum]"),
        (Halves, "Halves.HALF is 0.5, not a str or an int of 64 bits"),
        (Huge, f"Huge.GOOGOL is {10**100}, not a str or an int of 64 bits"),
    ],
)
def test_unsupported_type(hint, problem):
    """A type that cannot be stored is reported with the class and the field."""
    assert field_problems(class_of(hint)) == [f"Sample.value: {problem}"]


def test_class_with_unsupported_types():
    """The first use of such a class raises, and says what a field may hold."""
    with pytest.raises(
        TypeError, match=r"Sample.value: object is not .*A field may hold str, int,"
    ):
        encode(event_of(object, 1))


def test_generic_event():
    """An event whose types are still open is reported."""
    assert field_problems(Shapeless) == ["Shapeless.value: ~T is not supported"]


def test_all_problems_of_a_class():
    """Every field at fault is reported, those of nested dataclasses under their own name."""

    @dataclasses.dataclass(frozen=True)
    class Part:
        raw: bytes

    class Faulty(DomainEvent, key="tags"):
        tags: list[str]
        part: Part
        made: int = dataclasses.field(default=1, init=False)
        named: int = Field(1, alias="n")
        given: dataclasses.InitVar[int] = 0

    assert sorted(problem.partition(": ")[2] for problem in field_problems(Faulty)) == [
        "a field with init=False cannot be read back",
        "a key is a single value, not list[str]",
        "an InitVar is not stored",
        "bytes is not supported",
        "pydantic's Field() is not a default; use Annotated[..., Field(...)]",
    ]


def test_unknown_name_in_an_annotation():
    """An annotation that names nothing is reported, with what to do."""
    problems = field_problems(class_of("list[Nowhere]"))
    assert "name 'Nowhere' is not defined" in problems[0]


def test_not_an_event():
    """What is not an event is refused as such."""
    with pytest.raises(TypeError, match="Card is not an event"):
        encode(Card("1"))
