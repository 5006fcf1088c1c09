"""The depot's own view of the shop's contract."""

from outbox_inbox import IntegrationEvent


class Sold(IntegrationEvent, name="shop.sold", key="order"):
    """Something was sold."""

    order: str
    number: int
