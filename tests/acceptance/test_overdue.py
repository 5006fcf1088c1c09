"""Orders that are not dispatched in time, found in the real orders: day by day, and in one go."""

import csv
import signal
from collections.abc import Callable
from datetime import date, timedelta

import pytest
from django.test import override_settings

from context_a.services import place_order
from context_b.models import Shipment
from outbox_inbox.testing import advance, drain, recorded
from project.simulation.business_day import dispatch_shipment
from project.simulation.order_files import read_orders
from tests.acceptance.conftest import Processes
from tests.acceptance.orders import NORTHWIND, needs_northwind
from tests.acceptance.store import Store

pytestmark = needs_northwind
DAY = timedelta(days=1)


def late_and_open(last: date, share: int = 1) -> tuple[set[str], set[str]]:
    """Return the orders shipped too late, and those open past their day on the last one.

    ``share``: only of every so-manieth order.
    """
    late, still_open = set(), set()
    with NORTHWIND[0].open(encoding="utf-8") as file:
        for row in list(csv.DictReader(file))[::share]:
            required = date.fromisoformat(row["required_on"])
            if row["shipped_on"]:
                if date.fromisoformat(row["shipped_on"]) > required:
                    late.add(row["order_id"])
            elif required < last:
                still_open.add(row["order_id"])
    return late, still_open


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("share", [12, pytest.param(1, marks=pytest.mark.slow)])
def test_day_by_day_exactly_the_overdue_orders_are_found(share: int) -> None:
    """The 37 orders shipped late and the open ones past their day are reported, once each."""
    from context_a.contracts import OrderOverdue

    orders = read_orders(*NORTHWIND)[::share]
    shipped = [order.shipped_on for order in orders if order.shipped_on]
    last = max(shipped) + 30 * DAY
    late, still_open = late_and_open(last, share)
    ends = [order.required_on + 1 * DAY for order in orders]
    days = sorted({*(order.ordered_on for order in orders), *shipped, *ends, last})
    before = days[0]
    for today in filter(lambda day: day <= last, days):
        advance(today - before)  # on the days between nothing happens
        before = today
        with override_settings(BUSINESS_DAY=today):
            for order in orders:
                if order.ordered_on == today:
                    place_order(
                        order.order_id,
                        customer=order.customer,
                        country=order.country,
                        lines=order.lines,
                        ordered_on=order.ordered_on,
                        required_on=order.required_on,
                    )
            drain()  # also what has come due in the night
            leaving = [order for order in orders if order.shipped_on == today]
            for order in leaving:
                dispatch_shipment(order.order_id, today)
            if leaving:
                drain()
    reported = [event.order_id for event in recorded(OrderOverdue)]
    assert (len(late) if share == 1 else 37, len(still_open) > 0) == (37, True)
    assert late
    assert sorted(reported) == sorted(late | still_open)
    assert set(Shipment.objects.filter(urgent=True).values_list("reference", flat=True)) == (
        late | still_open
    )


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("dispatch.before_handler", marks=pytest.mark.slow),
        pytest.param("dispatch.before_commit", marks=pytest.mark.sqlite),
    ],
)
def test_killed_in_the_middle_exactly_the_late_orders_are_found(
    new_store: Callable[[], Store], point: str
) -> None:
    """Brought in as a history, and killed on the way: the 37 late ones, and no others yet."""
    processes = Processes(new_store())
    command = ("manage.py", "place_orders", *map(str, NORTHWIND))
    status, printed = processes.run(*command, faults=f"{point}:kill@300")
    assert status == -signal.SIGKILL, printed
    processes.succeed(*command)
    found = processes.store.query("SELECT reference FROM shipping_shipment WHERE urgent")
    late, _ = late_and_open(date.max)
    assert sorted(reference for (reference,) in found) == sorted(late)
    reported = processes.store.query(
        "SELECT COUNT(*) FROM outbox_inbox_outboxmessage WHERE type = 'ordering.order_overdue'"
    )
    assert (len(late), reported) == (37, [(37,)])
