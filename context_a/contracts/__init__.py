"""The contracts that ordering publishes: the only part of it that other contexts may know.

Imports no models. Each other context whose contracts ordering understands has a module here:
`shipping`.
"""

from datetime import date
from decimal import Decimal

from outbox_inbox import IntegrationEvent


class OrderPlaced(IntegrationEvent, name="ordering.order_placed", version=1, key="order_id"):
    """A customer has placed an order. Its lines and their prices stay private to ordering."""

    order_id: str
    customer: str
    country: str
    total: Decimal
    ordered_on: date
    required_on: date


class OrderOverdue(IntegrationEvent, name="ordering.order_overdue", version=1, key="order_id"):
    """An order was not shipped in time. Published once, even if the order has been shipped since."""

    order_id: str
    required_on: date


class OrderCancelled(IntegrationEvent, name="ordering.order_cancelled", version=1, key="order_id"):
    """An order published before is cancelled. Country and total are those of the order."""

    order_id: str
    country: str
    total: Decimal
