"""The own view that the market has of the contracts of the farm."""

from outbox_inbox import IntegrationEvent


class Sown(IntegrationEvent, name="farm.sown", key="order"):
    """Something was sown."""

    order: str
    number: int


class Watered(IntegrationEvent, name="farm.watered", key="order"):
    """It was watered."""

    order: str
    number: int


class Reaped(IntegrationEvent, name="farm.reaped", key="order"):
    """It was reaped."""

    order: str
    number: int


class Priced(IntegrationEvent, name="farm.priced", key="order"):
    """What was reaped has a price; its number is the next one."""

    order: str
    number: int
