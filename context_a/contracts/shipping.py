"""Ordering's view of shipping's contracts: only the fields that it needs.

Shipping's own class is not imported: either context can move to another process, and shipping can
add fields, without a change here.
"""

from datetime import date

from outbox_inbox import IntegrationEvent


class ShipmentDispatched(IntegrationEvent, name="shipping.shipment_dispatched", version=1):
    """The goods have left the warehouse."""

    reference: str
    dispatched_on: date
