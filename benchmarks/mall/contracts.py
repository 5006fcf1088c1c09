"""The one contract of the benchmarks, with the fields and the size of `Bought`."""

from datetime import datetime
from decimal import Decimal

from outbox_inbox import IntegrationEvent


class Sold(IntegrationEvent, name="mall.sold", key="order"):
    """Something was sold."""

    order: str
    number: int
    country: str
    total: Decimal
    bought_at: datetime
    note: str
