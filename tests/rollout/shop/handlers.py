"""The consumers of the shop: the new code has one more, and another event for one of them."""

from outbox_inbox import handles
from tests.rollout import NEW

from . import events
from .models import Entry


@handles(events.Placed)
def placed(event: events.Placed) -> None:
    """Handle each message in a transaction of its own."""
    Entry.objects.create(consumer="placed", order=event.order, number=event.number)


@handles(events.Placed, many=True)
def listed(found: list[events.Placed]) -> None:
    """Handle many messages at once."""
    Entry.objects.bulk_create(
        Entry(consumer="listed", order=event.order, number=event.number) for event in found
    )


@handles(events.Placed, consumer="both")
def first(event: events.Placed) -> None:
    """Handle a step."""
    Entry.objects.create(consumer="both", order=event.order, number=2 * event.number)


if NEW:

    @handles(events.Refunded, consumer="both")
    def second(event: events.Refunded) -> None:
        """Handle what comes after the step."""
        Entry.objects.create(consumer="both", order=event.order, number=2 * event.number + 1)

    @handles(events.Placed, transaction="batch")
    def audit(event: events.Placed) -> None:
        """Handle many messages in one transaction."""
        Entry.objects.create(consumer="audit", order=event.order, number=event.number)
