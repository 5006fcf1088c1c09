"""Inbound: a small function for each contract."""

from outbox_inbox import inbound
from tests.support.script import play

from .contracts import Priced, Reaped, Sown, Watered
from .events import Expected, Labelled, Offered, Promised


@inbound(Sown)
def expect(event: Sown) -> Expected:
    """Translate the first step."""
    play("expect", event)
    return Expected(order=event.order, number=event.number)


@inbound(Watered)
def promise(event: Watered) -> Promised:
    """Translate the second step."""
    play("promise", event)
    return Promised(order=event.order, number=event.number)


@inbound(Reaped)
def offer(event: Reaped) -> Offered:
    """Translate the third step."""
    play("offer", event)
    return Offered(order=event.order, number=event.number)


@inbound(Priced)
def label(event: Priced) -> Labelled:
    """Translate the price."""
    play("label", event)
    return Labelled(order=event.order, number=event.number)
