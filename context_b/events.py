"""Private facts of shipping, in its own words: an order is a reference here, a country a place."""

from datetime import date

from outbox_inbox import DomainEvent


class ShipmentRequested(DomainEvent, key="reference"):
    """Somebody wants goods sent."""

    reference: str
    destination: str
    due_on: date


class RequestWithdrawn(DomainEvent, key="reference"):
    """Somebody no longer wants them sent."""

    reference: str


class RequestUrged(DomainEvent, key="reference"):
    """Somebody should have had them by now."""

    reference: str


class HandedToCarrier(DomainEvent, key="reference"):
    """The goods have left the house."""

    reference: str
    on: date
