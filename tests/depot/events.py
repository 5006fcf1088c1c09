"""The depot's own language."""

from outbox_inbox import DomainEvent


class Wanted(DomainEvent, key="order"):
    """Something has to be picked."""

    order: str
    number: int
