"""What happens on a field; the steps of an order are numbered by tens."""

from outbox_inbox import DomainEvent


class Sown(DomainEvent, key="order"):
    """Something was sown."""

    order: str
    number: int


class Watered(DomainEvent, key="order"):
    """It was watered."""

    order: str
    number: int


class Reaped(DomainEvent, key="order"):
    """It was reaped."""

    order: str
    number: int
