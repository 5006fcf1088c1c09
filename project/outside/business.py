"""A day of business: customers order and change their minds, the warehouse sends the goods off.

Every step may be done again: an order that is placed, cancelled or dispatched already changes
nothing. So a day that was cut short, even by kill -9, is simply begun anew.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from context_a.services import OrderRefused, cancel_order, place_order
from context_b.models import Shipment
from context_b.services import ShipmentRefused, dispatch_shipment
from outbox_inbox import ConcurrencyError
from outbox_inbox.operations import drain_all

from .orders import OutsideOrder

Show = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Shows the progress of a step: its name and size, if known; then how much more has been done."""

_TRIES = 5


@dataclass(kw_only=True)
class Day:
    """One day; afterwards, what came of it.

    Fields:
        show: is shown the progress.
        stop: asked between two orders; true ends the day early.
        placed, cancelled, dispatched: how many orders each step changed.
        problems: what was refused or out of reach.
    """

    show: Show
    stop: Callable[[], bool]
    placed: int = 0
    cancelled: int = 0
    dispatched: int = 0
    problems: list[str] = field(default_factory=list)

    def spend(self, orders: Sequence[OutsideOrder]) -> None:
        """Place all orders, cancel some, dispatch some; after each step the contexts talk it over.

        Each call of a use case is a transaction of its own.
        """
        cancelled = [order for order in orders if order.cancelled]
        leaving = [order for order in orders if order.shipped_on]
        self.placed = self._each("placing orders", orders, _place)
        self._talk()
        if cancelled:
            self.cancelled = self._each("cancelling orders", cancelled, _cancel)
            self._talk()
        self.dispatched = self._each("dispatching shipments", leaving, _dispatch)
        self._talk()

    def _each(
        self, title: str, orders: Sequence[OutsideOrder], act: Callable[[OutsideOrder], bool]
    ) -> int:
        """Act on each order; return how many that changed, and note what was refused."""
        changed = 0
        with self.show(title, len(orders)) as advance:
            for order in orders:
                if self.stop():
                    break
                try:
                    changed += _insist(act, order)
                except (OrderRefused, ShipmentRefused) as refusal:
                    self.problems.append(str(refusal))
                except Shipment.DoesNotExist:
                    self.problems.append(f"shipment {order.order_id} has not been booked")
                advance(1)
        return changed

    def _talk(self) -> None:
        """Relay, receive and dispatch everywhere until all is quiet."""
        with self.show("letting the contexts talk", None) as advance:
            drained = drain_all(
                stop=self.stop, progress=lambda _owner, _work, count: advance(count)
            )
        for each in drained:
            if each.unreachable:
                self.problems.append(f"the transport of {each.context}: {each.unreachable}")


def _place(order: OutsideOrder) -> bool:
    return place_order(
        order.order_id,
        customer=order.customer,
        country=order.country,
        lines=order.lines,
        ordered_on=order.ordered_on,
        required_on=order.required_on,
    )


def _cancel(order: OutsideOrder) -> bool:
    return cancel_order(order.order_id)


def _dispatch(order: OutsideOrder) -> bool:
    return order.shipped_on is not None and dispatch_shipment(order.order_id, order.shipped_on)


def _insist(act: Callable[[OutsideOrder], bool], order: OutsideOrder) -> bool:
    """Act again when somebody else changed the order at the same moment."""
    for _ in range(_TRIES - 1):
        try:
            return act(order)
        except ConcurrencyError:
            continue
    return act(order)
