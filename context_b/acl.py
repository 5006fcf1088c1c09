"""Where shipping's language meets the others': pure functions, one event in, one event out.

Whatever changes inside shipping, or in a foreign contract, ends here.
"""

from outbox_inbox import inbound, outbound

from .contracts import ShipmentDispatched
from .contracts.ordering import OrderCancelled, OrderOverdue, OrderPlaced
from .events import HandedToCarrier, RequestUrged, RequestWithdrawn, ShipmentRequested


# One translator for all, so that a withdrawal never overtakes its request on the way in.
@inbound(OrderPlaced, OrderCancelled, OrderOverdue)
def understand(
    event: OrderPlaced | OrderCancelled | OrderOverdue,
) -> ShipmentRequested | RequestWithdrawn | RequestUrged:
    """Take an order for what it is to us: goods to be sent to a country."""
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
    """Tell the others that goods have left the house."""
    return ShipmentDispatched(reference=event.reference, dispatched_on=event.on)
