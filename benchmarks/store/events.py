"""One event for each way of handling, all with the same fields: 400 bytes of JSON."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, TypeVar

from outbox_inbox import DomainEvent

E = TypeVar("E")

BYTES: Final = 400
FIRST: Final = 100_000
"""The smallest number of a purchase: six digits, so that all events have the same size."""
WHEN: Final = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
NOTE: Final = "Leave it with the neighbours, please; they are at home all day. ".ljust(270, "x")


class Bought(DomainEvent, key="order"):
    """Handled in a transaction of its own, which is the default."""

    order: str
    number: int
    country: str
    total: Decimal
    bought_at: datetime
    note: str


class BoughtTogether(Bought):
    """Handled with others in one transaction."""


class BoughtListed(Bought):
    """Handled as a list."""


class Seen(Bought):
    """Handled by a handler that does nothing, so that only the claim costs time."""


def bought(number: int, cls: Callable[..., E] = Bought, order: str | None = None) -> E:
    """Return the event of one purchase; every thousandth has the same order."""
    return cls(
        order=order or f"order-{number % 1000:06}",
        number=number,
        country="SE",
        total=Decimal("1234.50"),
        bought_at=WHEN,
        note=NOTE,
    )
