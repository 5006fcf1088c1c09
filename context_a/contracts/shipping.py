"""Ordering's view of shipping's contracts: only the fields it needs, so that either can move out.

Not an import of shipping's own class: that class may grow or move, and ordering need not know.
"""

from datetime import date

from outbox_inbox import IntegrationEvent


class ShipmentDispatched(IntegrationEvent, name="shipping.shipment_dispatched", version=1):
    """The goods have left the house."""

    reference: str
    dispatched_on: date
