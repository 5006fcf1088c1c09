"""Events of the codec's tests, and how they are stored and read back."""

import dataclasses
from datetime import datetime
from decimal import Decimal
from typing import Any, NewType

import pytest

from outbox_inbox import DomainEvent, InvalidEvent
from outbox_inbox.events.codec import decode, encode

Sku = NewType("Sku", str)


@dataclasses.dataclass(frozen=True)
class Line:
    """A dataclass in a field."""

    sku: Sku
    price: Decimal
    at: datetime | None = None


@dataclasses.dataclass(frozen=True)
class Card:
    """A dataclass that others are derived from."""

    number: str


class Placed(DomainEvent, version=3, key="order_id"):
    """An event with an older version."""

    order_id: str
    lines: list[Line] = dataclasses.field(default_factory=list)
    total: Decimal = Decimal(0)


class Tree(DomainEvent):
    """An event that refers to itself."""

    children: "list[Tree]"
    at: "datetime | None" = None


def class_of(hint: Any, module: str = __name__) -> type[DomainEvent]:
    """Return a new event class with one field, ``value``; ``module`` has the names in a text."""
    return type(
        "Sample", (DomainEvent,), {"__annotations__": {"value": hint}, "__module__": module}
    )


def event_of(hint: Any, value: Any) -> DomainEvent:
    """Return an event of a new class with this one field."""
    return class_of(hint)(value=value)


def back(event: DomainEvent) -> Any:
    """Return the event as it is read back."""
    return decode(type(event), encode(event), version=1)


def refusal(event: DomainEvent) -> list[str]:
    """Return the errors with which an event is refused."""
    with pytest.raises(InvalidEvent) as raised:
        encode(event)
    return raised.value.errors
