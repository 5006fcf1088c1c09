"""The anti-corruption layer of shipping: pure functions that translate one event into another.

A change inside shipping, or in another context's contract, is absorbed here.
"""

from outbox_inbox import inbound, outbound

from .contracts import ShipmentDispatched
from .contracts.ordering import OrderCancelled, OrderOverdue, OrderPlaced
from .events import HandedToCarrier, RequestUrged, RequestWithdrawn, ShipmentRequested


@inbound(OrderPlaced)
def request_shipment(event: OrderPlaced) -> ShipmentRequested:
    """Translate an order into what shipping knows: goods to be sent to a country."""
    return ShipmentRequested(
        reference=event.order_id, destination=event.country, due_on=event.required_on
    )


@inbound(OrderCancelled)
def withdraw_request(event: OrderCancelled) -> RequestWithdrawn:
    """Translate a cancelled order: its goods are not to be sent any more."""
    return RequestWithdrawn(reference=event.order_id)


@inbound(OrderOverdue)
def urge_request(event: OrderOverdue) -> RequestUrged:
    """Translate a late order: its goods should be sent at once."""
    return RequestUrged(reference=event.order_id)


@outbound(HandedToCarrier)
def announce_departure(event: HandedToCarrier) -> ShipmentDispatched:
    """Publish that goods have left the warehouse."""
    return ShipmentDispatched(reference=event.reference, dispatched_on=event.on)
