"""A business day: customers place and cancel orders, the warehouse dispatches the goods.

Every step may be repeated: placing, cancelling or dispatching an order a second time changes
nothing. So a day that was interrupted, even by kill -9, is run again from its beginning.

Where only one of the contexts is deployed, only its part of the day runs.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, timedelta

from context_a.services import OrderRefused, cancel_order, place_order
from outbox_inbox.operations import Drained, QueueStats, drain, queue_stats

from .customer_order import CustomerOrder
from .deployment import ORDERING, SHIPPING, is_deployed

ShowProgress = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Takes the title of a step and its size, if known; yields what is called with its progress."""

PATIENCE = timedelta(seconds=60)
"""How long the warehouse waits for the next shipment to be booked."""

_FINAL_DRAINS = 5
_PAUSE = 0.2  # seconds between two counts of the booked shipments


class DispatchRefused(Exception):
    """The warehouse cannot dispatch this shipment; the message says why."""


@dataclass(kw_only=True)
class BusinessDay:
    """One business day; afterwards, its results.

    Fields:
        show: shows the progress of each step.
        stop: called between two orders; true ends the day early.
        wait: how to pause, in seconds; one that returns early ends the pause.
        patience: where ordering is deployed elsewhere, how long to wait for the next shipment to be
            booked; default 60 s.
        placed, cancelled, dispatched: how many orders each step changed.
        problems: what was refused or could not be reached.
        queues: their state at the end.
    """

    show: ShowProgress
    stop: Callable[[], bool]
    wait: Callable[[float], None] = time.sleep
    patience: timedelta = PATIENCE
    placed: int = 0
    cancelled: int = 0
    dispatched: int = 0
    problems: list[str] = field(default_factory=list)
    queues: Sequence[QueueStats] = ()

    def run(self, orders: Sequence[CustomerOrder]) -> None:
        """Place all orders, cancel some, dispatch some; after each step drain the queues.

        Each call of a use case is a transaction of its own.
        """
        if is_deployed(ORDERING):
            self._run_ordering(orders)
        if is_deployed(SHIPPING):
            self._run_shipping([order for order in orders if order.shipped_on])
        self._finish_queues()

    def _run_ordering(self, orders: Sequence[CustomerOrder]) -> None:
        cancelled = [order for order in orders if order.cancelled]
        self.placed = self._for_each("placing orders", orders, _place)
        self._drain()
        if cancelled:
            self.cancelled = self._for_each("cancelling orders", cancelled, _cancel)
            self._drain()

    def _run_shipping(self, leaving: Sequence[CustomerOrder]) -> None:
        if not is_deployed(ORDERING):
            self._wait_until_booked(leaving)
        self.dispatched = self._for_each("dispatching shipments", leaving, _dispatch)
        self._drain()

    def _wait_until_booked(self, leaving: Sequence[CustomerOrder]) -> None:
        """Wait until all shipments are booked, or none has been for too long."""
        ids = [order.order_id for order in leaving]
        with self.show("waiting for shipments", len(ids)) as advance:
            found, last = 0, time.monotonic()
            while not self.stop():
                drain(stop=self.stop)
                booked = _count_booked(ids)
                if booked > found:
                    advance(booked - found)
                    found, last = booked, time.monotonic()
                if found == len(ids) or time.monotonic() - last >= self.patience.total_seconds():
                    return
                self.wait(_PAUSE)

    def _for_each(
        self, title: str, orders: Sequence[CustomerOrder], act: Callable[[CustomerOrder], bool]
    ) -> int:
        """Call a use case for each order; return how many that changed, and note the refusals."""
        changed = 0
        with self.show(title, len(orders)) as advance:
            for order in orders:
                if self.stop():
                    break
                try:
                    changed += act(order)
                except (OrderRefused, DispatchRefused) as refusal:
                    self.problems.append(str(refusal))
                advance(1)
        return changed

    def _drain(self) -> None:
        """Relay, receive and dispatch in all contexts until the queues are empty."""
        with self.show("draining the queues", None) as advance:
            drained = drain(stop=self.stop, progress=lambda _context, _mover, count: advance(count))
        self.problems += _unreachable(drained)

    def _finish_queues(self) -> None:
        """Count what is left, and drain what another process has added in the meantime."""
        self.queues = queue_stats()
        for _ in range(_FINAL_DRAINS):
            if self.stop() or not any(each.unfinished for each in self.queues):
                break
            drain(stop=self.stop)
            self.queues = queue_stats()


def _unreachable(drained: Iterable[Drained]) -> list[str]:
    return [
        f"the transport of {each.context}: {each.unreachable}"
        for each in drained
        if each.unreachable
    ]


def _place(order: CustomerOrder) -> bool:
    return place_order(
        order.order_id,
        customer=order.customer,
        country=order.country,
        lines=order.lines,
        ordered_on=order.ordered_on,
        required_on=order.required_on,
    )


def _cancel(order: CustomerOrder) -> bool:
    return cancel_order(order.order_id)


def _dispatch(order: CustomerOrder) -> bool:
    return order.shipped_on is not None and dispatch_shipment(order.order_id, order.shipped_on)


def dispatch_shipment(reference: str, on: date) -> bool:
    """Call shipping's use case, which can only be imported where shipping is deployed."""
    from context_b.models import Shipment
    from context_b.services import ShipmentRefused
    from context_b.services import dispatch_shipment as dispatch

    try:
        return dispatch(reference, on)
    except ShipmentRefused as refusal:
        raise DispatchRefused(str(refusal)) from refusal
    except Shipment.DoesNotExist as missing:
        raise DispatchRefused(f"shipment {reference} has not been booked") from missing


def _count_booked(ids: Sequence[str]) -> int:
    from context_b.models import Shipment

    return len(Shipment.objects.in_bulk(ids, field_name="reference"))
