"""The shop's own language: the new code has an event more."""

from outbox_inbox import DomainEvent
from tests.rollout import NEW


class Placed(DomainEvent, key="order"):
    """A step of an order."""

    order: str
    number: int


if NEW:

    class Refunded(DomainEvent, key="order"):
        """Comes after its step."""

        order: str
        number: int
