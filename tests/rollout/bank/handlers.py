"""The consumer of the bank."""

from outbox_inbox import handles

from . import contracts
from .models import Entry


@handles(contracts.Shipped)
def booked(event: contracts.Shipped) -> None:
    """Make an entry."""
    Entry.objects.create(consumer="booked", order=event.order, number=event.number)
