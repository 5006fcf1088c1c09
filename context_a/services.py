"""The use cases of ordering: everything that other code may ask of it.

Each one loads the order from its stream, lets it decide, and appends the event at the version that
the decision was based on. If another process has appended an event meanwhile, nothing is stored,
and the use case decides again on the new state. (Called within an open transaction it cannot do
that: the caller gets the `ConcurrencyError`.)

All of them are idempotent, and return whether they changed anything.
"""

from collections.abc import Callable, Sequence
from datetime import date

from outbox_inbox import DomainEvent
from outbox_inbox.aggregates import Repository, retry_on_conflict

from .events import OrderLine
from .order import Order, OrderRefused

__all__ = ["OrderLine", "OrderRefused", "cancel_order", "mark_shipped", "place_order"]


def place_order(
    order_id: str,
    *,
    customer: str,
    country: str,
    lines: Sequence[OrderLine],
    ordered_on: date,
    required_on: date,
) -> bool:
    """Place an order; its id is the idempotency key.

    Raises OrderRefused when an order of this id was placed with other content.
    """
    return _decide(
        order_id,
        lambda order: order.place(
            customer=customer,
            country=country,
            lines=lines,
            ordered_on=ordered_on,
            required_on=required_on,
        ),
    )


def cancel_order(order_id: str) -> bool:
    """Cancel an order. Raises OrderRefused when it has been shipped, or was never placed."""
    return _decide(order_id, Order.cancel)


def mark_shipped(order_id: str, on: date) -> bool:
    """Mark an order as shipped. Raises OrderRefused when it is cancelled, or was never placed."""
    return _decide(order_id, lambda order: order.ship(on))


# Without snapshots: an order has three events at most.
_ORDERS = Repository("ordering", start=Order, fold=Order.apply, stream="order-{}")


@retry_on_conflict
def _decide(order_id: str, decision: Callable[[Order], DomainEvent | None]) -> bool:
    with _ORDERS.atomic():
        order = _ORDERS.load(order_id)
        event = decision(order.state)
        if event is None:
            return False
        order.append(event)
        return True
