"""What ordering does after an event: update the order summary, and mark orders as shipped."""

from outbox_inbox import PermanentError, handles

from .events import Cancelled, GoodsLeft, Placed, Shipped
from .models import OrderSummary
from .services import OrderRefused, mark_shipped


# Together the three are the consumer "ordering.summaries": it gets the events of an order in the
# order in which they were recorded, so that a summary exists before it is updated.
# All effects are in this database, so many events may share a transaction.
@handles(Placed, consumer="summaries", transaction="batch")
def create_summary(event: Placed) -> None:
    """Create the summary of an order."""
    OrderSummary.objects.create(
        order_id=event.order_id,
        customer=event.customer,
        country=event.country,
        ordered_on=event.ordered_on,
        required_on=event.required_on,
        total=event.total,
    )


@handles(Cancelled, consumer="summaries", transaction="batch")
def show_as_cancelled(event: Cancelled) -> None:
    """Show in the summary that the order was cancelled."""
    OrderSummary.objects.filter(order_id=event.order_id).update(
        status=OrderSummary.Status.CANCELLED
    )


@handles(Shipped, consumer="summaries", transaction="batch")
def show_as_shipped(event: Shipped) -> None:
    """Show in the summary when the goods have left."""
    OrderSummary.objects.filter(order_id=event.order_id).update(
        status=OrderSummary.Status.SHIPPED, shipped_on=event.shipped_on
    )


@handles(GoodsLeft)
def ship_order(event: GoodsLeft) -> None:
    """Mark an order as shipped when its goods have left."""
    try:
        mark_shipped(event.order_id, event.on)
    except OrderRefused as refusal:
        # The goods of a cancelled order had left before shipping was informed. A retry would not
        # change that: as a dead letter it is found by an operator, who calls the customer.
        raise PermanentError(str(refusal)) from refusal
