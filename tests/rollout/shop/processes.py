"""The process of the shop: the new code has another version of its state."""

from typing import Any

from outbox_inbox import upcasts
from outbox_inbox.processes import Process, continues, starts
from tests.rollout import NEW

from .events import Placed
from .models import Entry


class Steps:
    """What both versions do."""

    def take(self, event: Placed) -> None:
        """Make an entry."""
        Entry.objects.create(consumer="watch", order=event.order, number=event.number)


if NEW:

    class Watch(Process, name="watch", version=2):
        """Follows the steps of an order, and counts them."""

        taken: int = 0

        @starts(Placed, by="order")
        @continues(Placed, by="order")
        def step(self, event: Placed) -> None:
            """Take a step."""
            self.taken += 1
            Steps().take(event)

    @upcasts(Watch, from_version=1)
    def taken_from_count(data: dict[str, Any]) -> dict[str, Any]:
        """What is called taken had another name at first."""
        return {"taken": data["count"]}

else:

    class Watch(Process, name="watch", version=1):  # type: ignore[no-redef]
        """Follows the steps of an order, and counts them."""

        count: int = 0

        @starts(Placed, by="order")
        @continues(Placed, by="order")
        def step(self, event: Placed) -> None:
            """Take a step."""
            self.count += 1
            Steps().take(event)
