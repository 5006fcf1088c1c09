"""The anti-corruption layer of shipping: pure functions that translate one event into another.

A change inside shipping, or in another context's contract, is absorbed here.
"""

from outbox_inbox import inbound, outbound

from .contracts import ShipmentDispatched
from .contracts.ordering import OrderCancelled, OrderOverdue, OrderPlaced
from .events import HandedToCarrier, RequestUrged, RequestWithdrawn, ShipmentRequested


# One translator for the three contracts, so that a withdrawal never overtakes its request: each of
# several translators would be a consumer at its own pace.
@inbound(OrderPlaced, OrderCancelled, OrderOverdue)
def translate_order(
    event: OrderPlaced | OrderCancelled | OrderOverdue,
) -> ShipmentRequested | RequestWithdrawn | RequestUrged:
    """Translate an order into what shipping knows: goods to be sent to a country."""
    match event:
        case OrderPlaced():
            return ShipmentRequested(
                reference=event.order_id, destination=event.country, due_on=event.required_on
            )
        case OrderCancelled():
            return RequestWithdrawn(reference=event.order_id)
        case OrderOverdue():
            return RequestUrged(reference=event.order_id)


@outbound(HandedToCarrier)
def announce_departure(event: HandedToCarrier) -> ShipmentDispatched:
    """Publish that goods have left the warehouse."""
    return ShipmentDispatched(reference=event.reference, dispatched_on=event.on)
