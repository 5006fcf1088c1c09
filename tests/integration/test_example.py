"""The example: what ordering and shipping decide, tell each other, and show."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.test import Client
from django.utils import timezone

from context_a import services as ordering
from context_a.contracts import OrderOverdue, OrderPlaced
from context_a.models import OrderSummary
from context_a.order import Order
from context_a.services import OrderLine, OrderRefused, cancel_order, mark_shipped, place_order
from context_b.contracts import ShipmentDispatched
from context_b.models import CountryBoard, Shipment
from context_b.services import ShipmentRefused, dispatch_shipment
from outbox_inbox import ConcurrencyError, streams
from outbox_inbox.contexts import get_context
from outbox_inbox.models import Delivery, DeliveryState, ProcessState
from outbox_inbox.operations import Selection, prune, retry
from outbox_inbox.testing import drain, recorded
from tests.support.example import refusing_shipment

pytestmark = pytest.mark.django_db(databases="__all__")

FIRST_OF_MAY = date(2024, 5, 1)
CHAI = OrderLine(product="Chai", unit_price=Decimal("18.00"), quantity=2)


def place(order_id: str, country: str = "Sweden", lines: tuple[OrderLine, ...] = (CHAI,)) -> bool:
    """Place an order that is nothing special."""
    return place_order(
        order_id,
        customer="Blåbär & Söner",
        country=country,
        lines=lines,
        ordered_on=FIRST_OF_MAY,
        required_on=date(2024, 5, 29),
    )


def ship(order_id: str) -> bool:
    """Mark an order as shipped on its first day."""
    return mark_shipped(order_id, FIRST_OF_MAY)


def dispatch(order_id: str) -> bool:
    """Let the goods of an order leave the house on its first day."""
    return dispatch_shipment(order_id, FIRST_OF_MAY)


def status_of(order_id: str) -> tuple[str, str]:
    """How the order stands in ordering, and its shipment in shipping."""
    return (
        OrderSummary.objects.get(order_id=order_id).status,
        Shipment.objects.get(reference=order_id).status,
    )


def story_of(order_id: str) -> list[str]:
    """What the stream of an order says."""
    found = streams.read("ordering", f"order-{order_id}")
    return [type(each.event).__name__ for each in found]


# An order's way through both contexts


def test_an_order_placed_is_summarised() -> None:
    """Ordering's read model shows an order that was placed."""
    place("1")
    drain()
    assert OrderSummary.objects.values().get() == {
        "order_id": "1",
        "customer": "Blåbär & Söner",
        "country": "Sweden",
        "ordered_on": FIRST_OF_MAY,
        "required_on": date(2024, 5, 29),
        "shipped_on": None,
        "total": Decimal("36.00"),
        "status": "open",
    }


def test_an_order_placed_books_a_shipment() -> None:
    """Shipping books a shipment to the order's country, due when the order is."""
    place("1")
    drain()
    shipment = Shipment.objects.get()
    assert (shipment.reference, shipment.destination, shipment.due_on, shipment.status) == (
        "1",
        "Sweden",
        date(2024, 5, 29),
        "booked",
    )


def test_orders_placed_are_counted_by_country() -> None:
    """The board sums up the orders of each country, whether they come together or later."""
    place("1", "Norway")
    place("2", "Sweden")
    place("3", "Sweden")
    drain()
    place("4", "Sweden")
    drain()
    assert list(CountryBoard.objects.order_by("country").values_list()) == [
        ("Norway", 1, Decimal("36.00")),
        ("Sweden", 3, Decimal("108.00")),
    ]


def test_a_shipment_dispatched_ships_the_order() -> None:
    """The dispatch in shipping comes back to ordering, with its day."""
    place("1")
    drain()
    dispatch_shipment("1", date(2024, 5, 3))
    drain()
    assert (status_of("1"), OrderSummary.objects.get().shipped_on) == (
        ("shipped", "dispatched"),
        date(2024, 5, 3),
    )


def test_the_stream_of_an_order_tells_its_story() -> None:
    """The stream has the decisions about the order, and nothing that was only heard."""
    place("1")
    drain()
    dispatch("1")
    drain()
    assert story_of("1") == ["Placed", "Shipped"]


def test_a_contract_tells_less_than_the_private_event() -> None:
    """What was bought, and at which prices, stays in ordering."""
    place("1")
    drain()
    assert recorded(OrderPlaced) == [
        OrderPlaced(
            order_id="1",
            customer="Blåbär & Söner",
            country="Sweden",
            total=Decimal("36.00"),
            ordered_on=FIRST_OF_MAY,
            required_on=date(2024, 5, 29),
        )
    ]


# Cancelling


def test_an_order_cancelled_calls_off_its_shipment() -> None:
    """A shipment still in the house is called off."""
    place("1")
    drain()
    cancel_order("1")
    drain()
    assert status_of("1") == ("cancelled", "called off")


def test_an_order_cancelled_no_longer_counts() -> None:
    """The board takes the order out again, to the cent."""
    place("1")
    place("2", lines=(OrderLine(product="Geitost", unit_price=Decimal("0.10"), quantity=3),))
    drain()
    cancel_order("1")
    drain()
    assert list(CountryBoard.objects.values_list()) == [("Sweden", 1, Decimal("0.30"))]


def test_an_order_cancelled_at_once_is_never_left_booked() -> None:
    """Placed and cancelled before anything was relayed, it ends as cancelled everywhere."""
    place("1")
    cancel_order("1")
    drain()
    assert status_of("1") == ("cancelled", "called off")


@pytest.mark.parametrize(
    ("label", "first", "second"),
    [
        ("ordering", "ordering.Placed", "ordering.Cancelled"),
        ("ordering", "ordering.Placed", "ordering.Shipped"),
        ("shipping", "ordering.order_placed", "ordering.order_cancelled"),
        ("shipping", "shipping.ShipmentRequested", "shipping.RequestWithdrawn"),
    ],
)
def test_what_may_not_overtake_has_one_consumer(label: str, first: str, second: str) -> None:
    """Order is kept per consumer: one that reads what follows has read what went before."""
    context = get_context(label)
    names = {each.name for each in context.consumers_of(first)}
    assert {each.name for each in context.consumers_of(second)} <= names


def test_a_shipment_called_off_is_not_dispatched() -> None:
    """Goods that are not wanted any more stay in the house."""
    place("1")
    cancel_order("1")
    drain()
    with pytest.raises(ShipmentRefused, match="called off"):
        dispatch("1")


def test_a_shipped_order_is_not_cancelled() -> None:
    """Once ordering knows that the goods have left, it is too late."""
    place("1")
    drain()
    dispatch("1")
    drain()
    with pytest.raises(OrderRefused, match="it cannot be cancelled"):
        cancel_order("1")


def cancel_too_late() -> None:
    """Let the goods leave before shipping has heard that the order is cancelled."""
    place("1")
    drain()
    dispatch("1")
    cancel_order("1")
    drain(raise_errors=False)


def test_calling_off_a_dispatched_shipment_has_no_effect() -> None:
    """A lorry on its way is not stopped."""
    cancel_too_late()
    assert Shipment.objects.get().status == "dispatched"


def test_goods_of_a_cancelled_order_are_a_matter_for_a_person() -> None:
    """Ordering cannot ship a cancelled order: the news is dead at once, for a person to see."""
    cancel_too_late()
    dead = Delivery.objects.get(state=DeliveryState.DEAD)
    assert (dead.consumer, dead.key, dead.attempts) == ("ordering.handlers.ship_order", "1", 1)


# Decisions


def test_an_order_shipped_long_after_its_watch_is_over_leaves_nothing() -> None:
    """The watch was told of, finished and pruned; no row waits for a start that will not come."""
    place("1")
    drain()
    drain(until=timezone.now() + timedelta(days=2))
    assert [event.order_id for event in recorded(OrderOverdue)] == ["1"]
    assert sum(each.processes for each in prune(older_than=timedelta(0))) == 1
    dispatch_shipment("1", date(2024, 6, 30))
    drain()
    assert OrderSummary.objects.get(order_id="1").status == "shipped"
    assert not ProcessState.objects.exists()


def test_placing_another_order_under_the_same_id_is_refused() -> None:
    """An id that was used is not used for something else, not even silently."""
    place("1", "Sweden")
    with pytest.raises(OrderRefused, match="with other content"):
        place("1", "Norway")


@pytest.mark.parametrize(
    ("act", "story", "dispatched"),
    [
        (place, ["Placed"], 0),
        (cancel_order, ["Placed", "Cancelled"], 0),
        (ship, ["Placed", "Shipped"], 0),
        (dispatch, ["Placed", "Shipped"], 1),
    ],
)
def test_deciding_again_changes_nothing(
    act: Callable[[str], bool], story: list[str], dispatched: int
) -> None:
    """The order id is the idempotency key: the second call records nothing."""
    if act is not place:
        place("1")
        drain()
    assert [act("1"), act("1")] == [True, False]
    drain()
    assert story_of("1") == story
    assert len(recorded(ShipmentDispatched)) == dispatched


@pytest.mark.parametrize("act", [cancel_order, ship])
def test_nothing_happens_to_an_order_that_was_never_placed(act: Callable[[str], bool]) -> None:
    """An unknown order is refused by name."""
    with pytest.raises(OrderRefused, match="order 404 has never been placed"):
        act("404")


def test_a_cancelled_order_is_not_shipped() -> None:
    """Ordering refuses to ship what is cancelled."""
    place("1")
    cancel_order("1")
    with pytest.raises(OrderRefused, match="it cannot be shipped"):
        ship("1")


def test_a_shipment_nobody_booked_is_not_dispatched() -> None:
    """Shipping knows no shipment before ordering's contract has arrived."""
    place("1")
    with pytest.raises(Shipment.DoesNotExist):
        dispatch("1")


@pytest.mark.parametrize(
    ("order_id", "lines"),
    [
        ("", (CHAI,)),
        ("1" * 101, (CHAI,)),
        ("1", ()),
        ("1", (replace(CHAI, quantity=0),)),
        ("1", (replace(CHAI, unit_price=Decimal(-1)),)),
        ("1", (replace(CHAI, discount=Decimal("1.1")),)),
    ],
)
def test_an_impossible_order_is_refused(order_id: str, lines: tuple[OrderLine, ...]) -> None:
    """What no read model has room for, and what makes no sense, is never recorded."""
    with pytest.raises(OrderRefused):
        place(order_id, lines=lines)
    assert recorded(context="ordering") == []


def test_a_total_is_rounded_half_up_once() -> None:
    """Half a cent goes up, and the lines are summed up before anything is rounded."""
    line = OrderLine(
        product="Herring", unit_price=Decimal("0.01"), quantity=1, discount=Decimal("0.25")
    )
    placed = Order("1").place(
        customer="x",
        country="y",
        lines=[line, line],
        ordered_on=FIRST_OF_MAY,
        required_on=FIRST_OF_MAY,
    )
    assert placed is not None
    assert placed.total == Decimal("0.02")


def test_a_decision_on_an_old_state_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two who decide at the same moment, the slower one is told to decide again."""
    place("1")
    stale = ordering._ORDERS.load("1")
    cancel_order("1")
    monkeypatch.setattr(ordering._ORDERS, "load", lambda order_id: stale)
    with pytest.raises(ConcurrencyError):
        ship("1")


# Failures


@pytest.fixture
def broken_order() -> Iterator[Callable[[], bool]]:
    """Nothing about order 2 can be booked, as long as this is broken."""
    yield from refusing_shipment("2")


def play() -> None:
    """Place three orders and cancel the second."""
    for order_id in ("1", "2", "3"):
        place(order_id)
    cancel_order("2")
    drain(raise_errors=False)


def test_an_order_that_fails_holds_up_no_other(broken_order: Callable[[], bool]) -> None:
    """The key of a failing order is parked; the others are handled."""
    play()
    assert sorted(Shipment.objects.values_list("reference", flat=True)) == ["1", "3"]


def test_a_failed_order_waits_in_its_place(broken_order: Callable[[], bool]) -> None:
    """After a retry the figures are those of a day on which nothing failed."""
    play()
    broken_order()
    retry(Selection(context="shipping"))
    drain()
    assert status_of("2") == ("cancelled", "called off")


# Looking

each_page = pytest.mark.parametrize(
    "page", ["ordering/ordersummary", "shipping/shipment", "shipping/countryboard"]
)


@each_page
def test_a_read_model_is_shown_in_the_admin(admin_client: Client, page: str) -> None:
    """Its list can be looked at."""
    place("1")
    drain()
    assert "Sweden" in admin_client.get(f"/admin/{page}/").content.decode()


@each_page
def test_a_read_model_is_not_edited_in_the_admin(admin_client: Client, page: str) -> None:
    """Not even a superuser adds to it."""
    assert admin_client.get(f"/admin/{page}/add/").status_code == 403
