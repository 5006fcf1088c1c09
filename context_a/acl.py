"""The anti-corruption layer of ordering: pure functions that translate one event into another.

A change inside ordering, or in another context's contract, is absorbed here.
"""

from outbox_inbox import inbound, outbound

from .contracts import OrderCancelled, OrderOverdue, OrderPlaced
from .contracts.shipping import ShipmentDispatched
from .events import Cancelled, GoodsLeft, Overdue, Placed


@outbound(Placed)
def announce_order(event: Placed) -> OrderPlaced:
    """Publish that an order was placed; its lines stay private."""
    return OrderPlaced(
        order_id=event.order_id,
        customer=event.customer,
        country=event.country,
        total=event.total,
        ordered_on=event.ordered_on,
        required_on=event.required_on,
    )


@outbound(Cancelled)
def announce_cancellation(event: Cancelled) -> OrderCancelled:
    """Publish that an order was cancelled."""
    return OrderCancelled(order_id=event.order_id, country=event.country, total=event.total)


@outbound(Overdue)
def announce_delay(event: Overdue) -> OrderOverdue:
    """Publish that an order was not shipped in time."""
    return OrderOverdue(order_id=event.order_id, required_on=event.required_on)


@inbound(ShipmentDispatched)
def note_departure(event: ShipmentDispatched) -> GoodsLeft:
    """Translate shipping's reference into the id of an order."""
    return GoodsLeft(order_id=event.reference, on=event.dispatched_on)
