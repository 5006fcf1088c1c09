"""The domain events of ordering: private facts, of which its streams consist."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from outbox_inbox import DomainEvent


@dataclass(frozen=True, kw_only=True)
class OrderLine:
    """`quantity` pieces of a product, each at `unit_price` less `discount` (0 to 1)."""

    product: str
    unit_price: Decimal
    quantity: int
    discount: Decimal = Decimal(0)


class Placed(DomainEvent, key="order_id"):
    """A customer has placed an order."""

    order_id: str
    customer: str
    country: str
    lines: tuple[OrderLine, ...]
    total: Decimal
    ordered_on: date
    required_on: date


class Cancelled(DomainEvent, key="order_id"):
    """The customer has cancelled the order before it was shipped.

    The event repeats the order's country and total, so that a board that has counted the order can
    subtract it without asking ordering.
    """

    order_id: str
    country: str
    total: Decimal


class Shipped(DomainEvent, key="order_id"):
    """The order is on its way to the customer."""

    order_id: str
    shipped_on: date


class Overdue(DomainEvent, key="order_id"):
    """The order was not shipped by the end of the day on which it was required."""

    order_id: str
    required_on: date


class GoodsLeft(DomainEvent, key="order_id"):
    """Shipping has dispatched the goods. It is not decided here, so no stream contains it."""

    order_id: str
    on: date
