"""The consumers: one handler for each way of handling."""

from typing import Any

from outbox_inbox import handles

from .events import Bought, BoughtListed, BoughtTogether, Seen
from .models import Purchase


@handles(Bought)
def enter(event: Bought) -> None:
    """Create a row, in a transaction of its own."""
    Purchase.objects.create(**_row(event))


@handles(BoughtTogether, transaction="batch")
def enter_together(event: BoughtTogether) -> None:
    """Create a row, in a transaction with others."""
    Purchase.objects.create(**_row(event))


@handles(BoughtListed, many=True)
def enter_list(events: list[BoughtListed]) -> None:
    """Create the rows of many events at once."""
    Purchase.objects.bulk_create([Purchase(**_row(event)) for event in events])


@handles(Seen)
def see(event: Seen) -> None:
    """Do nothing."""


def _row(event: Bought) -> dict[str, Any]:
    return {
        "order": event.order,
        "number": event.number,
        "country": event.country,
        "total": event.total,
        "bought_at": event.bought_at,
        "note": event.note,
    }
