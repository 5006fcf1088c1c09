"""The text of a snapshot: the state comes back exactly, or is refused with the field's name."""

from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

import pytest

from outbox_inbox.events.codec import decode_state, encode_state, fingerprint
from outbox_inbox.exceptions import InvalidSnapshot, UnreadableMessage
from tests.shop.events import Noted


@dataclass
class Line:
    """Mutable, and part of a state."""

    product: str
    price: Decimal


@dataclass
class Basket:
    """A state as people write it."""

    number: int
    lines: list[Line] = field(default_factory=list)
    opened_on: date | None = None
    first: Noted | None = None
    share: float = 0.0

    @cached_property
    def total(self) -> Decimal:
        """What the lines cost."""
        return sum((line.price for line in self.lines), Decimal(0))


FULL = Basket(
    number=7,
    lines=[Line("Chai", Decimal("18.50")), Line("Blåbär", Decimal("1E+2"))],
    opened_on=date(2026, 1, 2),
    first=Noted(order="a", number=1),
)


def test_a_state_comes_back_as_it_was():
    """Mutable dataclasses, lists, dates, decimals to the last digit, and events."""
    assert decode_state(Basket, encode_state(FULL)) == FULL


def test_the_text_is_canonical():
    """Names sorted, no spaces, text as it is."""
    assert encode_state(Basket(number=1, lines=[Line("Å", Decimal("1.50"))])) == (
        '{"first":null,"lines":[{"price":"1.50","product":"Å"}],'
        '"number":1,"opened_on":null,"share":0.0}'
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"share": float("nan")}, "share: "),
        ({"number": True}, "number: bool where int"),
        ({"lines": [Line("Chai", 1.5)]}, "lines[0].price: float where Decimal"),
        ({"opened_on": datetime(2026, 1, 2, tzinfo=UTC)}, "opened_on: datetime"),
        ({"lines": (Line("Chai", Decimal(1)),)}, "lines: tuple where list"),
        ({"lines": [Line("a\0b", Decimal(1))]}, "lines[0].product: "),
    ],
)
def test_a_value_that_would_not_come_back_is_refused(values, reason):
    """The error names the field."""
    with pytest.raises(InvalidSnapshot) as refused:
        encode_state(Basket(**{"number": 1, **values}))
    assert any(each.startswith(reason) for each in refused.value.errors), refused.value.errors


def test_all_that_is_wrong_is_told_at_once_with_the_way_out():
    """A developer who mends one field does not meet the next one tomorrow."""
    with pytest.raises(InvalidSnapshot, match=r"number: .*; share: .*snapshot_every=None"):
        encode_state(Basket(number="1", share=None))


def test_an_attribute_that_is_no_field_is_refused():
    """It would be lost without a word."""
    basket = Basket(number=1)
    basket.paid = True
    with pytest.raises(InvalidSnapshot, match="paid: an attribute that is not a field of Basket"):
        encode_state(basket)


def test_a_cached_property_is_no_loss():
    """It is worked out anew."""
    basket = Basket(number=1)
    assert basket.total == 0
    assert decode_state(Basket, encode_state(basket)) == basket


def test_what_a_class_changes_while_it_is_made_is_refused():
    """Reading it back shows what the types do not."""

    @dataclass
    class Counting:
        number: int

        def __post_init__(self) -> None:
            self.number += 1

    with pytest.raises(InvalidSnapshot, match="number: would be read back as another value"):
        encode_state(Counting(1))


def test_a_state_that_contains_itself_is_refused():
    """It has no end that could be written."""
    knot = Knot([])
    knot.parts.append(knot)
    with pytest.raises(InvalidSnapshot, match="nested"):
        encode_state(knot)


@pytest.mark.parametrize(
    ("shared", "places"),
    [
        (lambda part: Shelf(left=part, right=part), "right: the same list as left"),
        (lambda part: Shelf(rows=[part, part]), "rows[1]: the same list as rows[0]"),
        (lambda part: Shelf(named={"a": part}, left=part), "named['a']: the same list as left"),
        (lambda part: Shelf(left=part, fixed=(part,)), "fixed[0]: the same list as left"),
        (lambda part: Shelf(left=part, box=Box(part)), "box.books: the same list as left"),
        (lambda part: Shelf(boxes=[box := Box(part), box]), "boxes[1].books: the same list"),
        (lambda part: Shelf(crates=[crate := Crate(), crate]), "crates[1]: the same Crate"),
    ],
)
def test_one_object_in_two_places_is_refused(shared, places):
    """It would come back as two, which are equal until the next event changes one of them."""
    with pytest.raises(InvalidSnapshot) as refused:
        encode_state(shared([1]))
    assert refused.value.errors[0].startswith(places)


def test_what_cannot_change_may_be_in_two_places():
    """One and the same text, tuple or frozen object stays equal to itself."""
    pair = (1, 2)
    shelf = Shelf(left=[1], right=[1], pairs=[pair, pair], mark=(note := Note("a")), other=note)
    assert decode_state(Shelf, encode_state(shelf)) == shelf


@dataclass(frozen=True)
class Note:
    """Cannot change."""

    text: str


@dataclass(frozen=True)
class Box:
    """Cannot change, but its list can."""

    books: list[int]


@dataclass
class Crate:
    """Can change."""

    number: int = 0


@dataclass
class Shelf:
    """A state with many places for one object."""

    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)
    named: dict[str, list[int]] = field(default_factory=dict)
    fixed: tuple[list[int], ...] = ()
    box: Box | None = None
    boxes: list[Box] = field(default_factory=list)
    crates: list[Crate] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    mark: Note | None = None
    other: Note | None = None


@dataclass
class Knot:
    """Has parts of its own kind."""

    parts: "list[Knot]"


def test_a_field_that_cannot_be_stored_is_an_error_of_the_class():
    """A set has no order; the error names the field and says what may be there instead."""
    with pytest.raises(TypeError, match=r"Odd\.tags: set\[str\] is not supported.*list\[\.\.\.\]"):
        fingerprint(make_dataclass("Odd", [("tags", set[str])]))


def test_a_class_that_is_no_dataclass_is_an_error():
    """Its fields are not known; the way out is told."""
    with pytest.raises(TypeError, match=r"dict is not a dataclass.*snapshot_every=None"):
        fingerprint(dict)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", "{", '{"number":1}', '{"number":"1"}', '{"number":NaN}', "[" * 9999],
)
def test_a_text_that_is_no_state_is_unreadable(text):
    """Cut off, of another shape, or hostile."""
    with pytest.raises(UnreadableMessage):
        decode_state(make_dataclass("Narrow", [("number", int), ("name", str)]), text)


@pytest.mark.parametrize(
    "fields",
    [
        [("number", int), ("more", int)],
        [("number", int | None)],
        [("count", int)],
        [("number", float)],
        [("number", int, field(default=3))],
    ],
)
def test_the_fingerprint_changes_with_the_fields(fields: Any):
    """A field that is added, renamed or retyped does not need a thought for snapshots."""
    before = fingerprint(make_dataclass("State", [("number", int)]))
    assert fingerprint(make_dataclass("State", fields)) != before


def test_the_fingerprint_is_that_of_the_class():
    """Two classes with the same fields mean different things; the same one means the same."""
    one, other = (make_dataclass(name, [("number", int)]) for name in ("One", "Other"))
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) == fingerprint(make_dataclass("One", [("number", int)]))
