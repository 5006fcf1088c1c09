"""The process of the yard; each step does what the test's script says as well."""

from datetime import UTC, datetime
from typing import Any

from outbox_inbox import record, upcasts
from outbox_inbox.processes import Process, continues, starts, times_out
from tests.shop.contracts import Sold
from tests.support.script import play

from .events import Begun, Ended, Expired, Moved, Nudged

SOME_DAY = datetime(2100, 1, 1, tzinfo=UTC)


def deal_of(event: Sold) -> str:
    """Return which deal something was sold for."""
    return event.order


class Deal(Process, name="deal", version=2):
    """Waits for what is moved and sold, until it ends or time is over."""

    log: tuple[str, ...] = ()

    def _note(self, *words: object) -> None:
        self.log = (*self.log, " ".join(map(str, words)))

    @starts(Begun, by="order")
    def begin(self, event: Begun) -> None:
        """Begin, and wait."""
        self._note("begun", event.number)
        self.time_out("late", at=SOME_DAY)
        play("begin", self, event)

    @continues(Moved, by="order")
    def move(self, event: Moved) -> None:
        """Go on."""
        self._note("moved", event.place)
        play("move", self, event)

    @starts(Sold, by=deal_of)
    @continues(Sold, by=deal_of)
    def sell(self, event: Sold) -> None:
        """Begin or go on, whatever comes first."""
        self._note("sold", event.number)
        play("sell", self, event)

    @continues(Nudged, by="order", missing="ignore")
    def nudge(self, event: Nudged) -> None:
        """Go on, if there is anything to go on with."""
        self._note("nudged")
        play("nudge", self, event)

    @continues(Ended, by="order")
    def end(self, event: Ended) -> None:
        """Come to an end."""
        self._note("ended")
        self.finish()

    @times_out("late")
    def late(self) -> None:
        """Say that it is late."""
        self._note("late")
        record(Expired(order=self.key, name="late"))
        play("late", self)

    @times_out("other")
    def other(self) -> None:
        """Say that something else has come."""
        self._note("other")
        record(Expired(order=self.key, name="other"))


@upcasts(Deal, from_version=1)
def log_from_notes(data: dict[str, Any]) -> dict[str, Any]:
    """What is called log had another name at first."""
    return {"log": data["notes"]}


@upcasts(Moved, from_version=1)
def place_from_to(data: dict[str, Any]) -> dict[str, Any]:
    """What is called place had another name at first."""
    return {"order": data["order"], "place": data["to"]}
