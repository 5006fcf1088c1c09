"""The published language of shipping: the only thing others may know of it. Imports no models.

What it understands of others stands beside, a module for each: `ordering`.
"""

from datetime import date

from outbox_inbox import IntegrationEvent


class ShipmentDispatched(
    IntegrationEvent, name="shipping.shipment_dispatched", version=1, key="reference"
):
    """The goods have left the house. The reference is the one they were requested with."""

    reference: str
    dispatched_on: date
