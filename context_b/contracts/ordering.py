"""Shipping's view of ordering's contracts: only the fields it needs, so that either can move out.

Not an import of ordering's own classes: those may grow or move, and shipping need not know.
"""

from datetime import date
from decimal import Decimal

from outbox_inbox import IntegrationEvent


class OrderPlaced(IntegrationEvent, name="ordering.order_placed", version=1):
    """A customer has committed to buy."""

    order_id: str
    country: str
    total: Decimal
    required_on: date


class OrderOverdue(IntegrationEvent, name="ordering.order_overdue", version=1):
    """An order was not dispatched in time."""

    order_id: str


class OrderCancelled(IntegrationEvent, name="ordering.order_cancelled", version=1):
    """An order announced before will not be."""

    order_id: str
    country: str
    total: Decimal
