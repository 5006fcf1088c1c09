"""The published language of ordering: the only thing others may know of it. Imports no models.

What it understands of others stands beside, a module for each: `shipping`.
"""

from datetime import date
from decimal import Decimal

from outbox_inbox import IntegrationEvent


class OrderPlaced(IntegrationEvent, name="ordering.order_placed", version=1, key="order_id"):
    """A customer has committed to buy. What exactly, and at which prices, stays in ordering."""

    order_id: str
    customer: str
    country: str
    total: Decimal
    ordered_on: date
    required_on: date


class OrderOverdue(IntegrationEvent, name="ordering.order_overdue", version=1, key="order_id"):
    """An order was not dispatched in time. It is told once, also of one that has left since."""

    order_id: str
    required_on: date


class OrderCancelled(IntegrationEvent, name="ordering.order_cancelled", version=1, key="order_id"):
    """An order announced before will not be. It says what the order was counted with."""

    order_id: str
    country: str
    total: Decimal
