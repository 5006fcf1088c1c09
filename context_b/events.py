"""The domain events of shipping: private facts in its own words (an order is a reference here)."""

from datetime import date

from outbox_inbox import DomainEvent


class ShipmentRequested(DomainEvent, key="reference"):
    """Goods are to be sent."""

    reference: str
    destination: str
    due_on: date


class RequestWithdrawn(DomainEvent, key="reference"):
    """Goods are not to be sent any more."""

    reference: str


class RequestUrged(DomainEvent, key="reference"):
    """Goods are late and should be sent at once."""

    reference: str


class HandedToCarrier(DomainEvent, key="reference"):
    """The goods have left the warehouse."""

    reference: str
    on: date
