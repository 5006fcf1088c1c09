"""The use cases of ordering: all that the outside world can ask of it.

Each one loads the order from its stream, lets it decide, and records the decision at the version
the decision was made on. When somebody else was faster, `record()` raises `ConcurrencyError` and
nothing is stored: call the use case again, and it decides again.

All of them are idempotent and say whether they changed anything.
"""

from collections.abc import Callable, Sequence
from datetime import date

from django.db import transaction

from outbox_inbox import DomainEvent, record, streams
from outbox_inbox.contexts import context

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


def _decide(order_id: str, decision: Callable[[Order], DomainEvent | None]) -> bool:
    with transaction.atomic(using=context("ordering").database):
        order = _load(order_id)
        event = decision(order)
        if event is None:
            return False
        record(event, stream=_stream(order_id), expected_version=order.version)
        return True


def _load(order_id: str) -> Order:
    order = Order(order_id)
    for recorded in streams.read("ordering", _stream(order_id)):
        order.apply(recorded.event)
    return order


def _stream(order_id: str) -> str:
    return f"order-{order_id}"
