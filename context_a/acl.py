"""The anti-corruption layer of ordering: pure functions that translate one event into another.

A change inside ordering, or in another context's contract, is absorbed here.
"""

from outbox_inbox import inbound, outbound

from .contracts import OrderCancelled, OrderOverdue, OrderPlaced
from .contracts.shipping import ShipmentDispatched
from .events import Cancelled, GoodsLeft, Overdue, Placed


# One translator for the three events. Two would be two consumers, each at its own pace: if the first
# failed, a cancellation could be published before its order.
@outbound(Placed, Cancelled, Overdue)
def announce(
    event: Placed | Cancelled | Overdue,
) -> OrderPlaced | OrderCancelled | OrderOverdue:
    """Publish what happened to an order."""
    match event:
        case Placed():
            return OrderPlaced(
                order_id=event.order_id,
                customer=event.customer,
                country=event.country,
                total=event.total,
                ordered_on=event.ordered_on,
                required_on=event.required_on,
            )
        case Cancelled():
            return OrderCancelled(order_id=event.order_id, country=event.country, total=event.total)
        case Overdue():
            return OrderOverdue(order_id=event.order_id, required_on=event.required_on)


@inbound(ShipmentDispatched)
def note_departure(event: ShipmentDispatched) -> GoodsLeft:
    """Translate shipping's reference into the id of an order."""
    return GoodsLeft(order_id=event.reference, on=event.dispatched_on)
