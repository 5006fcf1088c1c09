"""The own language of the market."""

from outbox_inbox import DomainEvent


class Expected(DomainEvent, key="order"):
    """Goods will come."""

    order: str
    number: int


class Promised(DomainEvent, key="order"):
    """Goods will come for sure."""

    order: str
    number: int


class Offered(DomainEvent, key="order"):
    """Goods are on offer."""

    order: str
    number: int


class Labelled(DomainEvent, key="order"):
    """Goods have a price."""

    order: str
    number: int
