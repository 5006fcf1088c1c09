"""The contract that shipping publishes: the only part of it that other contexts may know.

Imports no models. Each other context whose contracts shipping understands has a module here:
`ordering`.
"""

from datetime import date

from outbox_inbox import IntegrationEvent


class ShipmentDispatched(
    IntegrationEvent, name="shipping.shipment_dispatched", version=1, key="reference"
):
    """The goods have left the warehouse. The reference is that of the request."""

    reference: str
    dispatched_on: date
