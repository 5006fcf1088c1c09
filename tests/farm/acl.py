"""Outbound: a small function for each event, and two for one of them."""

from outbox_inbox import outbound
from tests.support.script import play

from . import contracts
from .events import Reaped, Sown, Watered


@outbound(Sown)
def announce_sown(event: Sown) -> contracts.Sown:
    """Publish the first step."""
    play("announce_sown", event)
    return contracts.Sown(order=event.order, number=event.number)


@outbound(Watered)
def announce_watered(event: Watered) -> contracts.Watered:
    """Publish the second step."""
    play("announce_watered", event)
    return contracts.Watered(order=event.order, number=event.number)


@outbound(Reaped)
def announce_reaped(event: Reaped) -> contracts.Reaped:
    """Publish the third step."""
    play("announce_reaped", event)
    return contracts.Reaped(order=event.order, number=event.number)


@outbound(Reaped)
def announce_price(event: Reaped) -> contracts.Priced:
    """Publish a price after the third step."""
    play("announce_price", event)
    return contracts.Priced(order=event.order, number=event.number + 1)
