"""The published language of the shop."""

from outbox_inbox import IntegrationEvent


class Sold(IntegrationEvent, name="shop.sold", key="order"):
    """Something was sold."""

    order: str
    number: int


class Whispered(IntegrationEvent, name="shop.whispered", key="order"):
    """Not among the contracts that the shop publishes."""

    order: str
    number: int
