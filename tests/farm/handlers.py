"""The ledger of the farm: several functions of one consumer, two of them for one event."""

from outbox_inbox import handles
from tests.shop.models import Entry
from tests.support.script import play

from .events import Reaped, Sown, Watered


@handles(Sown, consumer="ledger", transaction="batch")
def book_sown(event: Sown) -> None:
    """Book the first step."""
    Entry.objects.create(consumer="ledger", order=event.order, number=event.number)
    play("book_sown", event)


@handles(Sown, Reaped, consumer="ledger", transaction="batch")
def audit(event: Sown | Reaped) -> None:
    """Make a second entry of the first step, and the first entry of the third one."""
    Entry.objects.create(consumer="audit", order=event.order, number=event.number)
    play("audit", event)


@handles(Watered, Reaped, consumer="ledger", transaction="batch")
def book(event: Watered | Reaped) -> None:
    """Book the other steps."""
    Entry.objects.create(consumer="ledger", order=event.order, number=event.number)
    play("book", event)
