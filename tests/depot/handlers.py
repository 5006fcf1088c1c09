"""A handler of the depot's own event, and a conformist one of the foreign contract."""

from outbox_inbox import handles
from tests.support.script import play

from .contracts import Sold
from .events import Wanted
from .models import Pick


@handles(Wanted)
def pick(event: Wanted) -> None:
    """Handle the translated event."""
    Pick.objects.create(consumer="pick", order=event.order, number=event.number)
    play("pick", event)


@handles(Sold)
def watch(event: Sold) -> None:
    """Handle the contract as it is."""
    Pick.objects.create(consumer="watch", order=event.order, number=event.number)
    play("watch", event)
