"""What ordering waits for: that every order is shipped in time."""

from datetime import date

from outbox_inbox import record
from outbox_inbox.processes import Process, continues, starts, times_out

from . import clock
from .events import Cancelled, Overdue, Placed, Shipped


# All its events have the key of their order, so they arrive in order, and `Placed` first. An event
# without an instance belongs to an order whose instance has finished and was pruned: it is ignored.
class Watch(Process, name="ordering.watch", transaction="batch"):
    """Watches an order until it is shipped, and records once if that is too late."""

    required_on: date | None = None

    @starts(Placed, by="order_id")
    def placed(self, event: Placed) -> None:
        """Wait for the order to be shipped, until the end of the day on which it is required."""
        self.required_on = event.required_on
        self.time_out("overdue", at=clock.after(event.required_on))

    @continues(Shipped, by="order_id", missing="ignore")
    def shipped(self, event: Shipped) -> None:
        """Compare the dates: when both events arrive together, the time-out has not come due."""
        if self.required_on is not None and event.shipped_on > self.required_on:
            self._record_overdue()
        self.finish()

    @continues(Cancelled, by="order_id", missing="ignore")
    def cancelled(self, event: Cancelled) -> None:
        """Stop waiting: a cancelled order is not shipped."""
        self.finish()

    @times_out("overdue")
    def overdue(self) -> None:
        """Record that the order was not shipped in time; whether it is shipped later does not matter."""
        self._record_overdue()
        self.finish()

    def _record_overdue(self) -> None:
        if self.required_on is not None:
            record(Overdue(order_id=self.key, required_on=self.required_on))
