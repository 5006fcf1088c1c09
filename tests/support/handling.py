"""What the tests of the dispatcher ask for: each way of handling, and the deliveries by number."""

from typing import Any

import pytest

from outbox_inbox.models import Delivery
from tests.shop.events import Counted, Listed, Noted

each_way = pytest.mark.parametrize(
    ("consumer", "event"),
    [("note", Noted), ("count", Counted), ("enlist", Listed)],
    ids=["message", "batch", "list"],
)


def delivery(consumer: str, number: int = 1, **which: Any) -> Delivery:
    """Return a delivery of a consumer of the shop by the number of its step."""
    return Delivery.objects.get(
        consumer__endswith=f".{consumer}", message__payload__contains=f'"number":{number},', **which
    )


def as_list(events: Any) -> list[Any]:
    """Return a list of what a handler was given."""
    return events if isinstance(events, list) else [events]


def numbers(events: Any) -> list[int]:
    """Return the numbers of what a handler was given."""
    return [event.number for event in as_list(events)]


def has_second_of_a(events: Any) -> bool:
    """Return whether a handler was given the second step of the order "a"."""
    return any((each.order, each.number) == ("a", 2) for each in as_list(events))
