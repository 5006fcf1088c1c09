"""The example with one of its contexts deployed elsewhere: commands, checks, admin, context map."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.core.management import CommandError, call_command

from context_a.models import OrderSummary
from context_a.services import OrderLine, place_order
from outbox_inbox.contexts import contexts
from outbox_inbox.models import QuarantinedMessage
from outbox_inbox.testing import drain
from project.simulation import business_day
from tests.support.example import FILES, in_all, printed, run

pytestmark = pytest.mark.django_db(databases="__all__")

LINES = [OrderLine(product="Geitost", unit_price=Decimal("2.50"), quantity=1)]
DAY = date(2024, 5, 1)
APPS = {"ordering": "context_a", "shipping": "context_b"}


@pytest.fixture
def deploy(settings):
    """Go on as the deployment of these contexts; all that are deployed share a broker."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": "memory://"}}
    others = [
        name
        for name in settings.INSTALLED_APPS
        if name not in (*APPS.values(), "tests.shop", "tests.depot")
    ]

    def install(*labels: str) -> None:
        settings.INSTALLED_APPS = [*others, *(APPS[label] for label in labels)]
        assert [context.label for context in contexts()] == sorted(labels)

    return install


# The day, in two parts


def test_ordering_alone_places_the_orders(deploy):
    """The deployment without shipping does its part, and reports the hops it can see."""
    deploy("ordering")
    report = run("place_orders", *FILES)
    assert (report["placed"], report["dispatched"]) == (5, 0)
    assert in_all(report) == {
        "ordering: orders placed": 5,
        "ordering: own events, outbox to own inbox": 5,
        "ordering: contracts published": 5,
        "ordering: contracts received": 0,
        "ordering: deliveries done": 15,
        "ordering: orders cancelled": 0,
        "ordering: orders shipped": 0,
        "ordering: orders open": 5,
    }


def test_the_board_is_reported_where_it_is_kept(deploy):
    """Ordering alone has no board to show, to a program or to a person."""
    deploy("ordering")
    assert not {"board", "countries", "revenue"} & run("place_orders", *FILES).keys()
    text = printed("place_orders", *FILES)
    assert ("country board" in text, "All is well in ordering:" in text) == (False, True)


def test_shipping_alone_dispatches_what_was_ordered_elsewhere(deploy):
    """The same files in the other deployment: what has left the house is dispatched."""
    deploy("ordering")
    run("place_orders", *FILES)
    deploy("shipping")
    report = run("place_orders", *FILES)
    assert (report["placed"], report["dispatched"], report["revenue"]) == (0, 4, "1023.16")
    assert {hop["context"] for hop in report["hops"]} == {"shipping"}


def test_the_two_parts_come_to_the_same_end_as_one_process(deploy):
    """Ordering hears from shipping in its next run; no message is quarantined."""
    for label in ("ordering", "shipping", "ordering"):
        deploy(label)
        report = run("place_orders", *FILES)
    hops = in_all(report)
    assert (hops["ordering: orders shipped"], hops["ordering: orders open"]) == (4, 1)
    assert not QuarantinedMessage.objects.exists()


def test_one_process_over_a_broker_comes_to_the_same_end(deploy):
    """Both contexts in one process, and a broker between them."""
    deploy("ordering", "shipping")
    hops = in_all(run("place_orders", *FILES))
    assert (hops["ordering: orders shipped"], hops["ordering: orders open"]) == (4, 1)
    assert not QuarantinedMessage.objects.exists()


def test_each_part_can_be_done_again(deploy):
    """A second run of either part changes nothing."""
    for label in ("ordering", "shipping") * 2:
        deploy(label)
        report = run("place_orders", *FILES)
    assert (report["placed"], report["dispatched"]) == (0, 0)


def test_shipping_waits_for_the_shipments(deploy, monkeypatch):
    """Orders that arrive while it waits are dispatched; what it waits with can be interrupted."""
    deploy("shipping")
    waits = iter(range(2))

    def order_meanwhile(_day: object, _seconds: float) -> None:
        if next(waits) == 1:
            deploy("ordering")
            run("place_orders", *FILES)
            deploy("shipping")

    monkeypatch.setattr("outbox_inbox.operations.running.Interrupt.wait", order_meanwhile)
    assert run("place_orders", *FILES)["dispatched"] == 4


def test_shipping_does_not_wait_for_ever(deploy):
    """What is not booked in time is named, with exit code 3: the same command again goes on."""
    deploy("shipping")
    with pytest.raises(CommandError, match="shipment 1001 has not been booked") as late:
        run("place_orders", *FILES, wait=0.01)
    assert late.value.returncode == 3


def test_what_comes_meanwhile_is_no_reason_to_complain(deploy, monkeypatch):
    """News from the other deployment after the last drain is handled, not reported as left over."""
    deploy("ordering")
    run("place_orders", *FILES)
    deploy("shipping")
    run("place_orders", *FILES)
    deploy("ordering")
    real, arrivals = business_day.queue_stats, iter([True])

    def look() -> Any:
        if next(arrivals, False):
            call_command("receive_messages", verbosity=0)
        return real()

    monkeypatch.setattr(business_day, "queue_stats", look)
    monkeypatch.setattr(business_day.BusinessDay, "_drain", lambda _day: None)
    hops = in_all(run("place_orders", *FILES))
    assert hops["ordering: orders shipped"] == 4


@pytest.mark.parametrize("label", APPS)
def test_the_demo_needs_both(deploy, label):
    """It makes up orders that the other deployment would not know: a clear error says so."""
    deploy(label)
    with pytest.raises(CommandError, match=f"this deployment has {label} only"):
        run("demo", orders=3)


# What else has to work without the other


def complaints() -> list[CheckMessage]:
    """What ``manage.py check`` would print: on MySQL the project is silent about its own board."""
    return [each for each in run_checks() if not each.is_silenced()]


@pytest.mark.parametrize("label", APPS)
def test_the_checks_find_nothing_over_a_broker(deploy, label):
    """A publisher that is deployed elsewhere is no mistake when a broker leads there."""
    deploy(label)
    assert complaints() == []


@pytest.mark.parametrize(("label", "other"), [("ordering", "shipping"), ("shipping", "ordering")])
def test_a_context_that_cannot_be_reached_is_an_error(deploy, settings, label, other):
    """With local:// and the other context missing, nothing could ever arrive: E005 says so."""
    deploy(label)
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": "local://"}}
    found = complaints()
    assert {each.id for each in found} == {"outbox_inbox.E005"}
    assert all(f"'{other}." in each.msg and "deployed elsewhere" in each.hint for each in found)


def test_the_map_shows_arrows_to_and_from_the_outside(deploy):
    """A contract that no context here subscribes to, or publishes, is drawn to the edge."""
    deploy("shipping")
    lines = printed("show_contexts").splitlines()
    assert "ordering (elsewhere) --> shipping: ordering.order_placed v1" in lines
    assert "shipping --> (elsewhere): shipping.shipment_dispatched v1" in lines
    assert run("show_contexts")["outside"][-1] == {
        "from": "shipping", "to": None, "type": "shipping.shipment_dispatched", "version": 1,
    }  # fmt: skip


def test_the_map_of_a_monolith_has_no_edge(deploy, settings):
    """Where all is here, nothing comes from elsewhere; over local:// nothing can go there."""
    deploy("ordering", "shipping")
    assert run("show_contexts")["outside"] == []
    deploy("ordering")
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": "local://"}}
    (arrow,) = run("show_contexts", skip_checks=True)["outside"]
    assert arrow["from"] == "shipping"


def test_the_statistics_are_of_this_deployment(deploy):
    """Each deployment has its own queues to watch."""
    deploy("shipping")
    assert list(run("queue_stats")["contexts"]) == ["shipping"]


def test_testing_drains_what_is_here(deploy):
    """The helper of the tests works with a context alone."""
    deploy("ordering")
    place_order("1", customer="A", country="B", lines=LINES, ordered_on=DAY, required_on=DAY)
    drain()
    assert OrderSummary.objects.get().order_id == "1"
