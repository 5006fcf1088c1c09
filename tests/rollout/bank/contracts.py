"""The bank's view of the contract of the shop."""

from outbox_inbox import IntegrationEvent


class Shipped(IntegrationEvent, name="shop.shipped", key="order"):
    """A step was shipped."""

    order: str
    number: int
