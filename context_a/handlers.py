"""What ordering does when something has happened: it keeps its read model, and ships orders."""

from outbox_inbox import PermanentError, handles

from .events import Cancelled, GoodsLeft, Placed, Shipped
from .models import OrderSummary
from .services import OrderRefused, mark_shipped


# One handler for the three events, not three: the events of an order reach one consumer in the
# order they were recorded in, but two consumers go their own pace.
# Its effects are all in this database, so many events may share a transaction.
@handles(Placed, Cancelled, Shipped, transaction="batch")
def summarise(event: Placed | Cancelled | Shipped) -> None:
    """Keep the summary of an order."""
    summary = OrderSummary.objects.filter(order_id=event.order_id)
    match event:
        case Placed():
            OrderSummary.objects.create(
                order_id=event.order_id,
                customer=event.customer,
                country=event.country,
                ordered_on=event.ordered_on,
                required_on=event.required_on,
                total=event.total,
            )
        case Cancelled():
            summary.update(status=OrderSummary.Status.CANCELLED)
        case Shipped():
            summary.update(status=OrderSummary.Status.SHIPPED, shipped_on=event.shipped_on)


@handles(GoodsLeft)
def ship_order(event: GoodsLeft) -> None:
    """Mark an order as shipped when its goods have left."""
    try:
        mark_shipped(event.order_id, event.on)
    except OrderRefused as refusal:
        # The goods of a cancelled order left before shipping heard of it. Trying again will not
        # bring them back: among the dead letters a person finds it, and calls the customer.
        raise PermanentError(str(refusal)) from refusal
