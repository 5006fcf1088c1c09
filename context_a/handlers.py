"""What ordering does after an event: update the order summary, and mark orders as shipped."""

from outbox_inbox import PermanentError, handles

from .events import Cancelled, GoodsLeft, Placed, Shipped
from .models import OrderSummary
from .services import OrderRefused, mark_shipped


# One handler for the three events, not three. One consumer gets the events of an order in the order
# in which they were recorded; of three consumers, each at its own pace, the one that updates a summary
# could run before the one that creates it.
# All effects are in this database, so many events may share a transaction.
@handles(Placed, Cancelled, Shipped, transaction="batch")
def update_summary(event: Placed | Cancelled | Shipped) -> None:
    """Create or update the summary of an order."""
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
        # The goods of a cancelled order had left before shipping was informed. A retry would not
        # change that: as a dead letter it is found by an operator, who calls the customer.
        raise PermanentError(str(refusal)) from refusal
