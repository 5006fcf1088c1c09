"""An order as the customer knows it: what was ordered, and when it was shipped."""

from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal, localcontext

from context_a.services import OrderLine


@dataclass(frozen=True, kw_only=True)
class CustomerOrder:
    """One order of a customer; `shipped_on` is None when it was never dispatched."""

    order_id: str
    customer: str
    country: str
    lines: tuple[OrderLine, ...]
    ordered_on: date
    required_on: date
    shipped_on: date | None = None
    cancelled: bool = False

    @property
    def total(self) -> Decimal:
        """What the order is worth, calculated here: a check of ordering must not ask ordering."""
        with localcontext(prec=100):
            lines = [one.unit_price * one.quantity * (1 - one.discount) for one in self.lines]
            return sum(lines, Decimal(0)).quantize(Decimal("0.01"), ROUND_HALF_UP)
