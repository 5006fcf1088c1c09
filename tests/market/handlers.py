"""Consumers of several functions: a message in each transaction, options, and lists."""

from collections.abc import Sequence

from outbox_inbox import Envelope, handles
from tests.shop.models import Entry
from tests.support.script import play

from .contracts import Priced, Reaped, Sown, Watered
from .events import Expected, Labelled, Offered, Promised


@handles(Expected, Promised, consumer="stock")
def stock(event: Expected | Promised) -> None:
    """Note goods that will come."""
    Entry.objects.create(consumer="stock", order=event.order, number=event.number)
    play("stock", event)


@handles(Expected, consumer="stock", takes_envelope=True)
def watch(event: Expected, envelope: Envelope) -> None:
    """Make a second entry of goods that will come."""
    Entry.objects.create(consumer="watch", order=event.order, number=event.number)
    play("watch", event, envelope)


@handles(Offered, Labelled, consumer="stock")
def sell(event: Offered | Labelled) -> None:
    """Note goods that are on offer."""
    Entry.objects.create(consumer="stock", order=event.order, number=event.number)
    play("sell", event)


@handles(Promised, consumer="hints", max_attempts=2, on_dead="skip")
def hint(event: Promised) -> None:
    """Note goods that may be passed by others once they are dead."""
    Entry.objects.create(consumer="hint", order=event.order, number=event.number)
    play("hint", event)


@handles(Promised, consumer="hints", max_attempts=2, on_dead="skip")
def hint_again(event: Promised) -> None:
    """Note the same goods again."""
    Entry.objects.create(consumer="hint", order=event.order, number=event.number)
    play("hint_again", event)


@handles(Sown, Watered, consumer="board", many=True)
def show(events: list[Sown | Watered]) -> None:
    """Show what grows."""
    _enter("board", events)
    play("show", events)


@handles(Sown, consumer="board", many=True, takes_envelope=True)
def tally(events: list[Sown], envelopes: list[Envelope]) -> None:
    """Make a second entry of what was sown."""
    _enter("tally", events)
    play("tally", events, envelopes)


@handles(Reaped, Priced, consumer="board", many=True)
def show_offers(events: list[Reaped | Priced]) -> None:
    """Show what is on offer."""
    _enter("board", events)
    play("show_offers", events)


def _enter(consumer: str, events: Sequence[Sown | Watered | Reaped | Priced]) -> None:
    Entry.objects.bulk_create(
        Entry(consumer=consumer, order=event.order, number=event.number) for event in events
    )
