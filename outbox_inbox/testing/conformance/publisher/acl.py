"""Outbound: what was thought is said."""

from outbox_inbox import outbound

from .contracts import Said
from .events import Thought


@outbound(Thought)
def say(event: Thought) -> Said:
    """Say it."""
    return Said(topic=event.topic, number=event.number)
