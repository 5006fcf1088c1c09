"""The domain events of the publisher."""

from outbox_inbox import DomainEvent


class Thought(DomainEvent, key="topic"):
    """Something is about to be said."""

    topic: str
    number: int
