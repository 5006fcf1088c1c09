import dataclasses
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Optional
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.db.models import TextChoices
from django.utils.safestring import mark_safe
from pydantic import Field

from outbox_inbox import DomainEvent, InvalidEvent
from outbox_inbox.events.codec import encode
from tests.support.stored import Card, Line, Placed, Sku, Tree, back, event_of, refusal


class Colour(Enum):
    RED = "red"
    GREEN = 2


class Size(StrEnum):
    SMALL = "s"


class Rank(IntEnum):
    FIRST = 1


class Status(TextChoices):
    OPEN = "open", "Still open"


@dataclasses.dataclass(frozen=True)
class SignedCard(Card):
    signature: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: int


class Everything(DomainEvent):
    text: str
    whole: int
    broken: float
    yes: bool
    amount: Decimal
    day: date
    moment: datetime
    hour: time
    length: timedelta
    id: UUID
    colour: Colour
    maybe: int | None
    either: Optional[int | str]  # noqa: UP045 - both spellings are allowed
    items: list[Line]
    pair: tuple[int, str]
    row: tuple[int, ...]
    names: dict[str, Decimal]
    slotted: Slotted


EVERYTHING = Everything(
    text='"\u00e9\n',
    whole=2**70,
    broken=-0.0,
    yes=True,
    amount=Decimal("12.50"),
    day=date(2024, 2, 29),
    moment=datetime(2024, 2, 29, 12, 30, 0, 7, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
    hour=time(23, 59, 59, 999999),
    length=timedelta(days=-1, microseconds=1),
    id=UUID("01234567-89ab-7def-8123-456789abcdef"),
    colour=Colour.GREEN,
    maybe=None,
    either="12",
    items=[Line(Sku("a"), Decimal("1E+2"))],
    pair=(1, "x"),
    row=(),
    names={"b": Decimal("0.00"), "a": Decimal(-1)},
    slotted=Slotted(3),
)

CANONICAL = (
    '{"amount":"12.50","broken":-0.0,"colour":2,"day":"2024-02-29","either":"12","hour":'
    '"23:59:59.999999","id":"01234567-89ab-7def-8123-456789abcdef","items":[{"at":null,"price":'
    '"1E+2","sku":"a"}],"length":"-P0DT86399.999999S","maybe":null,"moment":'
    '"2024-02-29T12:30:00.000007-03:30","names":{"a":"-1","b":"0.00"},"pair":[1,"x"],"row":[],'
    '"slotted":{"x":3},"text":"\\"\u00e9\\n","whole":1180591620717411303424,"yes":true}'
)


# -------------------------------------------------------------------------------- what is written


def test_canonical_text():
    """An event has one text: names sorted, no spaces, each value in its exact notation."""
    assert encode(EVERYTHING) == CANONICAL


def test_everything_comes_back():
    """A value of every type a field may have comes back equal."""
    assert back(EVERYTHING) == EVERYTHING


def test_equal_events_have_one_text():
    """The order of a dict's keys leaves no trace in the text."""
    one, other = (event_of(dict[str, int], value) for value in ({"a": 1, "b": 2}, {"b": 2, "a": 1}))
    assert encode(one) == encode(other)


@pytest.mark.parametrize(
    "value", [-0.0, Decimal("12.50"), Decimal("1E+3"), Decimal("-0E-7")], ids=str
)
def test_numbers_keep_their_text(value):
    """-0.0 keeps its sign, a Decimal exponent and trailing zeros; equality would not show it."""
    assert str(back(event_of(type(value), value)).value) == str(value)


def test_datetime_keeps_its_offset():
    """A datetime comes back with its UTC offset, hence on the same day of the calendar."""
    moment = datetime(2024, 7, 1, 0, 30, tzinfo=ZoneInfo("Europe/Stockholm"))
    assert back(event_of(datetime, moment)).value.isoformat() == "2024-07-01T00:30:00+02:00"


def test_datetime_in_a_repeated_hour_keeps_its_instant():
    """In the hour that summer time repeats, the second pass comes back as the second pass."""
    second = datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Stockholm"))
    assert back(event_of(datetime, second)).value.timestamp() == second.timestamp()


@pytest.mark.parametrize("value", [True, 1, 1.0, "1", None])
def test_kinds_in_a_union_stay_apart(value):
    """In a union, True, 1, 1.0 and "1" come back as what they were."""
    found = back(event_of(bool | int | float | str | None, value)).value
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("value", [True, False, Rank.FIRST])
@pytest.mark.parametrize("hint", [bool | Rank, Rank | bool])
def test_truth_beside_an_enum_of_numbers(hint, value):
    """In a union with an Enum of numbers, True does not become the member whose value is 1."""
    assert back(event_of(hint, value)).value is value


@pytest.mark.parametrize("value", [Card("1"), SignedCard("1"), SignedCard("1", "x")])
def test_dataclasses_in_a_union(value):
    """Each dataclass of a union comes back as the class that it was, where the fields show it."""
    assert back(event_of(Card | SignedCard, value)).value == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [(Colour, Colour.RED), (Size, Size.SMALL), (Rank, Rank.FIRST), (Status, Status.OPEN)],
)
def test_enum_comes_back_as_its_member(kind, value):
    """Members of plain, text and number Enums come back as themselves."""
    assert back(event_of(kind, value)).value is value


def test_recursive_event():
    """A class may refer to itself."""
    tree = Tree(children=[Tree(children=[], at=datetime(2024, 1, 1, tzinfo=UTC))])
    assert back(tree) == tree


def test_inherited_fields():
    """An event has the fields of its base as well."""

    class Repeated(Placed):
        times: int

    assert back(Repeated(order_id="1", times=2)) == Repeated(order_id="1", times=2)


def test_event_without_fields():
    """An event may have no fields: that it happened is all."""
    assert encode(type("Began", (DomainEvent,), {})()) == "{}"


class FrozenClock(datetime):
    """A datetime as clocks that stand still in tests hand out."""


class NanosecondClock(datetime):
    """A datetime with more in it than a datetime holds."""

    def isoformat(self, *args):
        return super().isoformat(*args) + "789"


class FrozenDay(date):
    """A date as clocks that stand still in tests hand out."""


@pytest.mark.parametrize(
    ("hint", "value", "plain"),
    [
        (datetime, FrozenClock(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)),
        (datetime | None, FrozenClock(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)),
        (date, FrozenDay(2024, 1, 1), date(2024, 1, 1)),
        (date | datetime, FrozenClock(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)),
    ],
)
def test_frozen_clocks(hint, value, plain):
    """The moments of a frozen clock are taken for what they stand for."""
    found = back(event_of(hint, value)).value
    assert (type(found), found) == (type(plain), plain)


# -------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("hint", "value", "error"),
    [
        (str, 1, "value: int where str is expected"),
        (str, None, "value: None where str is expected"),
        (str, mark_safe("x"), "value: SafeString where str is expected"),
        (str, Size.SMALL, "value: Size where str is expected"),
        (str, "a\0", "value: holds a NUL character at position 1"),
        (str, "\ud800", "value: holds a lone surrogate at position 0"),
        (int, "12", "value: str where int is expected"),
        (int, True, "value: bool where int is expected"),
        (int, 1.0, "value: float where int is expected"),
        pytest.param(int, 10**4_300, "value: has more than 4,300 digits", id="digits"),
        (float, 1, "value: int where float is expected"),
        (float, float("nan"), "value: nan is not a finite number"),
        (float, float("-inf"), "value: -inf is not a finite number"),
        (bool, 1, "value: int where bool is expected"),
        (Decimal, 1.5, "value: float where Decimal is expected"),
        (Decimal, Decimal("NaN"), "value: NaN is not a finite number"),
        (Decimal, Decimal("sNaN"), "value: sNaN is not a finite number"),
        (Decimal, Decimal("Infinity"), "value: Infinity is not a finite number"),
        (date, datetime(2024, 1, 1, tzinfo=UTC), "value: datetime where date is expected"),
        (datetime, date(2024, 1, 1), "value: date where datetime is expected"),
        (
            datetime,
            datetime(2024, 1, 1),  # noqa: DTZ001 - naive on purpose
            "value: is naive; a datetime needs a time zone",
        ),
        (
            datetime,
            datetime(1880, 1, 1, tzinfo=ZoneInfo("Europe/Amsterdam")),
            "value: has the UTC offset 0:19:32; RFC 3339 has whole minutes: convert it to UTC",
        ),
        (
            datetime,
            NanosecondClock(2024, 1, 1, tzinfo=UTC),
            "value: NanosecondClock holds more than a datetime",
        ),
        (
            time,
            time(1, tzinfo=UTC),
            "value: has a time zone; a time without a date has no UTC offset to keep",
        ),
        (timedelta, 5, "value: int where timedelta is expected"),
        (UUID, "01234567-89ab-7def-8123-456789abcdef", "value: str where UUID is expected"),
        (Colour, "red", "value: str where Colour is expected"),
        (int | None, "1", "value: str where int | None is expected"),
        (list[int], (1,), "value: tuple where list[int] is expected"),
        (list[int], [1, "2"], "value[1]: str where int is expected"),
        (tuple[int, ...], [1], "value: list where tuple[int, ...] is expected"),
        (tuple[int, str], (1,), "value: 1 items where tuple[int, str] is expected"),
        (tuple[int, str], [1, ""], "value: list where tuple[int, str] is expected"),
        (tuple[int, str], (1, 2), "value[1]: int where str is expected"),
        (dict[str, int], [("a", 1)], "value: list where dict[str, int] is expected"),
        (dict[str, int], {"a": None}, "value['a']: None where int is expected"),
        (dict[str, int], {1: 1}, "value[1]: int where str is expected (as a key)"),
        (
            dict[str, int],
            {"\ud800": 1},
            "value['\\ud800']: holds a lone surrogate at position 0 (as a key)",
        ),
        (
            dict[str, int],
            {"\0": 1},
            "value['\\x00']: holds a NUL character at position 0 (as a key)",
        ),
        (Line, {"sku": "a"}, "value: dict where Line is expected"),
        (Card, SignedCard("1"), "value: SignedCard where Card is expected"),
        (list[Line], [Line("a", Decimal("NaN"))], "value[0].price: NaN is not a finite number"),
        (Line | None, Line("a", 1), "value.price: int where Decimal is expected"),
        (date | str, "2024-01-01", "value: str would be read back as date"),
        (list[date | str], ["x", "2024-01-01"], "value[1]: str would be read back as date"),
        (dict[str, date | str], {"k": "2024-01-01"}, "value['k']: str would be read back as date"),
        (Colour | str, Colour.RED, "value: Colour would be read back as str"),
        (list[int] | tuple[int, ...], (1,), "value: tuple would be read back as list"),
        (list[int] | list[str], [1, "a"], "value[1]: str where int is expected"),
        (
            Annotated[str, Field(max_length=2)],
            "abc",
            "value: String should have at most 2 characters (when it is read back)",
        ),
    ],
)
def test_refused_value(hint, value, error):
    """A value of another type, or one that would not come back as it is, is refused with its path."""
    assert refusal(event_of(hint, value)) == [error]


def test_all_errors_at_once():
    """One refusal names every field at fault."""
    naive = datetime(2024, 1, 1)  # noqa: DTZ001 - naive on purpose
    lines = [Line("a", Decimal(1)), Line("\0", Decimal("NaN"), naive)]
    assert refusal(Placed(order_id=7, lines=lines, total="1")) == [
        "lines[1].at: is naive; a datetime needs a time zone",
        "lines[1].price: NaN is not a finite number",
        "lines[1].sku: holds a NUL character at position 0",
        "order_id: int where str is expected",
        "total: str where Decimal is expected",
    ]


def test_refusal_says_the_event_and_the_fields():
    """The text of the error begins with the event's class, and names the fields."""
    with pytest.raises(InvalidEvent, match="Placed: order_id: int where str is expected; total: "):
        encode(Placed(order_id=7, total=1))


def test_refusal_of_very_many_values_stays_readable():
    """The text of the error is cut after twenty reasons; the attribute has them all."""
    with pytest.raises(InvalidEvent, match=r"and 80 more$") as raised:
        encode(event_of(list[int], ["x"] * 100))
    assert len(raised.value.errors) == 100


def test_errors_do_not_tell_values():
    """A refused value, which may be private, does not stand in the error."""
    assert "secret" not in str(refusal(event_of(int, "secret")))


def test_too_deep_an_event():
    """An event with more than 64 levels is refused."""
    tree = Tree(children=[])
    for _ in range(40):
        tree = Tree(children=[tree])
    assert refusal(tree) == ["the event is nested more than 64 levels deep"]


@pytest.mark.parametrize("at", [None, "soon"])
def test_endless_event(at):
    """A list that contains itself is refused, not followed for ever in search of other faults."""
    tree = Tree(children=[], at=at)
    tree.children.append(tree)
    assert refusal(tree) == ["the event is nested more than 64 levels deep"]


def test_too_many_nodes():
    """An event with more than 10,000 values is refused."""
    assert refusal(event_of(list[int], [0] * 10_000)) == ["the event has more than 10,000 nodes"]


def test_too_large_an_event(settings):
    """An event whose text is larger than MAX_PAYLOAD bytes is refused."""
    settings.OUTBOX_INBOX = {"MAX_PAYLOAD": 20}
    assert refusal(event_of(str, "\u00e9" * 10)) == [
        'the event has 32 bytes, and OUTBOX_INBOX["MAX_PAYLOAD"] allows 20'
    ]
