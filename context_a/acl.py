"""Where ordering's language meets the others': pure functions, one event in, one event out.

Whatever changes inside ordering, or in a foreign contract, ends here.
"""

from outbox_inbox import inbound, outbound

from .contracts import OrderCancelled, OrderOverdue, OrderPlaced
from .contracts.shipping import ShipmentDispatched
from .events import Cancelled, GoodsLeft, Overdue, Placed


# One translator for all, so that a cancellation never overtakes its order on the way out.
@outbound(Placed, Cancelled, Overdue)
def announce(
    event: Placed | Cancelled | Overdue,
) -> OrderPlaced | OrderCancelled | OrderOverdue:
    """Tell the others about an order."""
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
def hear_of_departure(event: ShipmentDispatched) -> GoodsLeft:
    """Take shipping's reference for what it is to us: the id of an order."""
    return GoodsLeft(order_id=event.reference, on=event.dispatched_on)
