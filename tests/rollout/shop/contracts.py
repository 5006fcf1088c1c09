"""The published language of the shop: the new code has another contract, and another version of one."""

from typing import Any

from outbox_inbox import IntegrationEvent, upcasts
from tests.rollout import NEW

if NEW:

    class Paid(IntegrationEvent, name="shop.paid", version=2, key="order"):
        """A step was paid for."""

        order: str
        number: int
        currency: str

    @upcasts(Paid, from_version=1)
    def currency_of_old(data: dict[str, Any]) -> dict[str, Any]:
        """At first there was one currency."""
        return {**data, "currency": "EUR"}

    class Shipped(IntegrationEvent, name="shop.shipped", key="order"):
        """A step was shipped."""

        order: str
        number: int

else:

    class Paid(IntegrationEvent, name="shop.paid", version=1, key="order"):  # type: ignore[no-redef]
        """A step was paid for."""

        order: str
        number: int
