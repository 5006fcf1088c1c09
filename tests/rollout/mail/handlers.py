"""The consumers of mail: the new code has one more."""

from outbox_inbox import handles
from tests.rollout import NEW

from . import contracts
from .models import Entry


@handles(contracts.Paid)
def paid(event: contracts.Paid) -> None:
    """Make an entry."""
    Entry.objects.create(consumer="paid", order=event.order, number=event.number)


if NEW:

    @handles(contracts.Shipped)
    def shipped(event: contracts.Shipped) -> None:
        """Make an entry."""
        Entry.objects.create(consumer="shipped", order=event.order, number=event.number)
