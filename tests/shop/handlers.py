"""One handler for each way; each makes an entry, then does what the test's script says."""

from typing import Any

from outbox_inbox import Envelope, handles, upcasts
from tests.support.script import play

from .events import Closed, Counted, Grown, Listed, Loose, Noted, Opened, Skipped, Twice
from .models import Entry


@handles(Noted)
def note(event: Noted) -> None:
    """Handle each message in a transaction of its own."""
    Entry.objects.create(consumer="note", order=event.order, number=event.number)
    play("note", event)


@handles(Noted, takes_envelope=True)
def witness(event: Noted, envelope: Envelope) -> None:
    """Handle the same message as `note`, with its envelope."""
    play("witness", event, envelope)


@handles(Counted, transaction="batch")
def count(event: Counted) -> None:
    """Handle many messages in one transaction."""
    Entry.objects.create(consumer="count", order=event.order, number=event.number)
    play("count", event)


@handles(Listed, many=True)
def enlist(events: list[Listed]) -> None:
    """Handle a list of messages."""
    Entry.objects.bulk_create(
        Entry(consumer="enlist", order=event.order, number=event.number) for event in events
    )
    play("enlist", events)


@handles(Listed, many=True, takes_envelope=True)
def survey(events: list[Listed], envelopes: list[Envelope]) -> None:
    """Look at the same messages as `enlist`, with their envelopes."""
    play("survey", events, envelopes)


@handles(Skipped, on_dead="skip", max_attempts=1)
def skip(event: Skipped) -> None:
    """Handle a message that may be passed by its followers once it is dead."""
    Entry.objects.create(consumer="skip", order=event.order, number=event.number)
    play("skip", event)


@handles(Twice, on_dead="skip", max_attempts=2, transaction="batch")
def twice(event: Twice) -> None:
    """Handle a message with another attempt before its followers may pass."""
    Entry.objects.create(consumer="twice", order=event.order, number=event.number)
    play("twice", event)


@handles(Loose)
def loose(event: Loose) -> None:
    """Handle a message without order."""
    Entry.objects.create(consumer="loose", order=event.order, number=event.number)
    play("loose", event)


@handles(Opened)
@handles(Closed)
def follow(event: Opened | Closed) -> None:
    """Handle two events in one order."""
    Entry.objects.create(consumer="follow", order=event.order, number=event.number)
    play("follow", event)


@handles(Grown)
def grow(event: Grown) -> None:
    """Handle a message of any age."""
    Entry.objects.create(consumer="grow", order=event.order, number=event.number)


@upcasts(Grown, from_version=1)
def rename_number(data: dict[str, Any]) -> dict[str, Any]:
    """Call the number what it is called today."""
    return {"order": data["order"], "number": data["count"]}
