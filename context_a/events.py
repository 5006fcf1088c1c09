"""Private facts of ordering: its streams consist of them, and nobody else ever sees one."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from outbox_inbox import DomainEvent


@dataclass(frozen=True, kw_only=True)
class OrderLine:
    """So many pieces of a product, each at `unit_price` less `discount` (0 to 1)."""

    product: str
    unit_price: Decimal
    quantity: int
    discount: Decimal = Decimal(0)


class Placed(DomainEvent, key="order_id"):
    """A customer has ordered."""

    order_id: str
    customer: str
    country: str
    lines: tuple[OrderLine, ...]
    total: Decimal
    ordered_on: date
    required_on: date


class Cancelled(DomainEvent, key="order_id"):
    """The customer has changed their mind in time.

    It repeats what the order was worth and where it would have gone, so that whoever counted the
    order can take it out again without asking.
    """

    order_id: str
    country: str
    total: Decimal


class Shipped(DomainEvent, key="order_id"):
    """The order is on its way to the customer."""

    order_id: str
    shipped_on: date


class Overdue(DomainEvent, key="order_id"):
    """The order was not on its way when the day was over on which it was required."""

    order_id: str
    required_on: date


class GoodsLeft(DomainEvent, key="order_id"):
    """Shipping's news in ordering's own words. It is heard, not decided: no stream has it."""

    order_id: str
    on: date
