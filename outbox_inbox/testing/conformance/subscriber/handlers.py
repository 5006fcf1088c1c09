"""Notes what the subscriber has handled."""

from outbox_inbox import Envelope, handles
from outbox_inbox.testing.conformance.effects import note_effect

from .contracts import Murmured, Said


@handles(Said, transaction="batch", takes_envelope=True)
@handles(Murmured, transaction="batch", takes_envelope=True)
def hear(event: Said | Murmured, envelope: Envelope) -> None:
    """Note the event once it is committed."""
    note_effect("conformance_subscriber", event.topic, event.number, envelope)
