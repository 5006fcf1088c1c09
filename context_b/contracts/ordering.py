"""Shipping's view of ordering's contracts: only the fields that it needs.

Ordering's own classes are not imported: either context can move to another process, and ordering
can add fields, without a change here.
"""

from datetime import date
from decimal import Decimal

from outbox_inbox import IntegrationEvent


class OrderPlaced(IntegrationEvent, name="ordering.order_placed", version=1):
    """A customer has placed an order."""

    order_id: str
    country: str
    total: Decimal
    required_on: date


class OrderOverdue(IntegrationEvent, name="ordering.order_overdue", version=1):
    """An order was not shipped in time."""

    order_id: str


class OrderCancelled(IntegrationEvent, name="ordering.order_cancelled", version=1):
    """An order published before is cancelled."""

    order_id: str
    country: str
    total: Decimal
