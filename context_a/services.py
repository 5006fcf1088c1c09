"""The use cases of ordering: all that the outside world can ask of it.

Each one loads the order from its stream, lets it decide, and appends the decision at the version
the decision was made on. When somebody else was faster, nothing is stored, and it decides again
on what the order has become. (Within somebody else's transaction that is theirs to do: they get
the `ConcurrencyError`.)

All of them are idempotent and say whether they changed anything.
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
    """Cancel an order. Raises OrderRefused when it is on its way, or was never placed."""
    return _decide(order_id, Order.cancel)


def mark_shipped(order_id: str, on: date) -> bool:
    """Note that an order is on its way. Raises OrderRefused when it is cancelled."""
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
