"""The aggregate: decides what may happen to an order, from the events that it has already.

Plain Python: no database, no clock, no framework. A decision returns the event that it leads to, or
None if the order has had this event already: so a use case may safely be called twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal, localcontext

from outbox_inbox import DomainEvent

from .events import Cancelled, OrderLine, Placed, Shipped

MAX_TEXT = 100
"""Characters that an order id, a customer and a country may have: as many as the read models store."""


class OrderRefused(Exception):
    """The order cannot do this, and a retry will not help; the message says why."""


@dataclass
class Order:
    """One order: the state that its decisions need."""

    order_id: str
    placed: Placed | None = None
    cancelled: bool = False
    shipped: bool = False

    def apply(self, event: DomainEvent) -> None:
        """Change the state by the next event of the stream."""
        match event:
            case Placed():
                self.placed = event
            case Cancelled():
                self.cancelled = True
            case Shipped():
                self.shipped = True

    def place(
        self,
        *,
        customer: str,
        country: str,
        lines: Sequence[OrderLine],
        ordered_on: date,
        required_on: date,
    ) -> Placed | None:
        """Decide whether the order can be placed; placed again with the same content, it stays as it is."""
        wanted = Placed(
            order_id=self.order_id,
            customer=customer,
            country=country,
            lines=tuple(lines),
            total=total_of(lines),
            ordered_on=ordered_on,
            required_on=required_on,
        )
        if self.placed == wanted:
            return None
        if self.placed:
            raise OrderRefused(f"order {self.order_id} has been placed before, with other content")
        _check(wanted)
        return wanted

    def cancel(self) -> Cancelled | None:
        """Decide whether the order can be cancelled: not when it has been shipped."""
        placed = self._require_placed()
        if self.shipped:
            raise OrderRefused(f"order {self.order_id} has been shipped, it cannot be cancelled")
        if self.cancelled:
            return None
        return Cancelled(order_id=self.order_id, country=placed.country, total=placed.total)

    def ship(self, on: date) -> Shipped | None:
        """Decide whether the order can be shipped: not when it is cancelled."""
        self._require_placed()
        if self.cancelled:
            raise OrderRefused(f"order {self.order_id} is cancelled, it cannot be shipped")
        if self.shipped:
            return None
        return Shipped(order_id=self.order_id, shipped_on=on)

    def _require_placed(self) -> Placed:
        if self.placed is None:
            raise OrderRefused(f"order {self.order_id} has never been placed")
        return self.placed


def total_of(lines: Sequence[OrderLine]) -> Decimal:
    """Return the total of the lines, rounded half up to cents once, at the end."""
    with localcontext(prec=100):  # enough digits to round nothing before the end
        exact = sum(
            (line.unit_price * line.quantity * (1 - line.discount) for line in lines), Decimal(0)
        )
        return exact.quantize(Decimal("0.01"), ROUND_HALF_UP)


def _check(order: Placed) -> None:
    for text in (order.order_id, order.customer, order.country):
        if not 0 < len(text) <= MAX_TEXT:
            raise OrderRefused(f"{text!r} is not a text of 1 to {MAX_TEXT} characters")
    if not order.lines:
        raise OrderRefused(f"order {order.order_id} has no lines")
    for line in order.lines:
        if line.quantity < 1 or line.unit_price < 0 or not 0 <= line.discount <= 1:
            raise OrderRefused(f"order {order.order_id} has an impossible line: {line}")
