"""Outbound translation of a thought."""

from outbox_inbox import outbound

from .contracts import Said
from .events import Thought


@outbound(Thought)
def express_thought(event: Thought) -> Said:
    """Return what is said."""
    return Said(topic=event.topic, number=event.number)
