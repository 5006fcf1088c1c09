"""A day of business: customers order and change their minds, the warehouse sends the goods off.

Every step may be done again: an order that is placed, cancelled or dispatched already changes
nothing. So a day that was cut short, even by kill -9, is simply begun anew.

Where only one of the contexts is deployed, only its part of the day takes place.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, timedelta

from context_a.services import OrderRefused, cancel_order, place_order
from outbox_inbox.operations import Drained, QueueStats, drain_all, queue_stats

from .deployed import ORDERING, SHIPPING, here
from .orders import OutsideOrder

Show = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Shows the progress of a step: its name and size, if known; then how much more has been done."""

PATIENCE = timedelta(seconds=60)
"""How long the warehouse waits for the next shipment that ordering has not asked for yet."""

_LOOKS = 5
_PAUSE = 0.2  # seconds between two looks at what has been booked


class Refused(Exception):
    """The warehouse cannot send this off; the message says why."""


@dataclass(kw_only=True)
class Day:
    """One day; afterwards, what came of it.

    Fields:
        show: is shown the progress.
        stop: asked between two orders; true ends the day early.
        wait: how to pause, in seconds; one that returns early ends the pause.
        patience: how long to wait for shipments, as long as none is booked, that are requested by
            an ordering deployed elsewhere; default 60 s.
        placed, cancelled, dispatched: how many orders each step changed.
        problems: what was refused or out of reach.
        queues: what is left in them at the end.
    """

    show: Show
    stop: Callable[[], bool]
    wait: Callable[[float], None] = time.sleep
    patience: timedelta = PATIENCE
    placed: int = 0
    cancelled: int = 0
    dispatched: int = 0
    problems: list[str] = field(default_factory=list)
    queues: Sequence[QueueStats] = ()

    def spend(self, orders: Sequence[OutsideOrder]) -> None:
        """Place all orders, cancel some, dispatch some; after each step the contexts talk it over.

        Each call of a use case is a transaction of its own.
        """
        if here(ORDERING):
            self._order(orders)
        if here(SHIPPING):
            self._send_off([order for order in orders if order.shipped_on])
        self._settle()

    def _order(self, orders: Sequence[OutsideOrder]) -> None:
        cancelled = [order for order in orders if order.cancelled]
        self.placed = self._each("placing orders", orders, _place)
        self._talk()
        if cancelled:
            self.cancelled = self._each("cancelling orders", cancelled, _cancel)
            self._talk()

    def _send_off(self, leaving: Sequence[OutsideOrder]) -> None:
        if not here(ORDERING):
            self._wait_for(leaving)
        self.dispatched = self._each("dispatching shipments", leaving, _dispatch)
        self._talk()

    def _wait_for(self, leaving: Sequence[OutsideOrder]) -> None:
        """Wait until all shipments are booked, or none has been for too long."""
        ids = [order.order_id for order in leaving]
        with self.show("waiting for shipments", len(ids)) as advance:
            found, last = 0, time.monotonic()
            while not self.stop():
                drain_all(stop=self.stop)
                booked = _booked(ids)
                if booked > found:
                    advance(booked - found)
                    found, last = booked, time.monotonic()
                if found == len(ids) or time.monotonic() - last >= self.patience.total_seconds():
                    return
                self.wait(_PAUSE)

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
                    changed += act(order)
                except (OrderRefused, Refused) as refusal:
                    self.problems.append(str(refusal))
                advance(1)
        return changed

    def _talk(self) -> None:
        """Relay, receive and dispatch everywhere until all is quiet."""
        with self.show("letting the contexts talk", None) as advance:
            drained = drain_all(
                stop=self.stop, progress=lambda _owner, _work, count: advance(count)
            )
        self.problems += _unreachable(drained)

    def _settle(self) -> None:
        """Look at the queues, and do what another process has put there in the meantime."""
        self.queues = queue_stats()
        for _ in range(_LOOKS):
            if self.stop() or not any(each.unfinished for each in self.queues):
                break
            drain_all(stop=self.stop)
            self.queues = queue_stats()


def _unreachable(drained: Iterable[Drained]) -> list[str]:
    return [
        f"the transport of {each.context}: {each.unreachable}"
        for each in drained
        if each.unreachable
    ]


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


def dispatch_shipment(reference: str, on: date) -> bool:
    """Call shipping's use case, which can be imported where shipping is deployed only."""
    from context_b.models import Shipment
    from context_b.services import ShipmentRefused
    from context_b.services import dispatch_shipment as dispatch

    try:
        return dispatch(reference, on)
    except ShipmentRefused as refusal:
        raise Refused(str(refusal)) from refusal
    except Shipment.DoesNotExist as missing:
        raise Refused(f"shipment {reference} has not been booked") from missing


def _booked(ids: Sequence[str]) -> int:
    from context_b.models import Shipment

    return len(Shipment.objects.in_bulk(ids, field_name="reference"))
