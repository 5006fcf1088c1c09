"""What ordering watches over: that what was promised happens."""

from datetime import date

from outbox_inbox import record
from outbox_inbox.processes import Process, continues, starts, times_out

from . import clock
from .events import Cancelled, Overdue, Placed, Shipped


# All its events have the key of their order, so a batch never waits for another one, and none comes
# before the start: one without an instance is for an order whose watch is over and pruned.
class Watch(Process, name="ordering.watch", transaction="batch"):
    """Watches an order until it is on its way, and says so once if that is too late."""

    required_on: date | None = None

    @starts(Placed, by="order_id")
    def placed(self, event: Placed) -> None:
        """Wait for the goods to leave, until the day that the customer has named is over."""
        self.required_on = event.required_on
        self.time_out("overdue", at=clock.after(event.required_on))

    @continues(Shipped, by="order_id", missing="ignore")
    def shipped(self, event: Shipped) -> None:
        """Compare the days: with events that come in one go, no clock has told."""
        if self.required_on is not None and event.shipped_on > self.required_on:
            self._tell()
        self.finish()

    @continues(Cancelled, by="order_id", missing="ignore")
    def cancelled(self, event: Cancelled) -> None:
        """Nobody waits for it any more."""
        self.finish()

    @times_out("overdue")
    def overdue(self) -> None:
        """Tell that nothing has left in time; that it leaves later is no news for this process."""
        self._tell()
        self.finish()

    def _tell(self) -> None:
        if self.required_on is not None:
            record(Overdue(order_id=self.key, required_on=self.required_on))
