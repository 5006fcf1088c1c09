"""The deals of the yard: how the tests of processes begin, move and look at one."""

import json
from typing import Any

from outbox_inbox.models import ProcessState
from outbox_inbox.testing import drain, recorded
from tests.yard.events import Begun, Expired, Moved

from .movers import put, states


def instance(key: str = "a") -> ProcessState:
    """Return the row of a deal."""
    return ProcessState.objects.get(process="deal", key=key)


def log(key: str = "a") -> list[str]:
    """Return what a deal remembers of its steps."""
    return list(json.loads(instance(key).state).get("log", []))


def pending(key: str = "a") -> list[str]:
    """Return the names of the time-outs that are set."""
    return sorted(json.loads(instance(key).time_outs))


def time_outs(**which: Any) -> list[str]:
    """Return the states of the messages of time-outs, in order."""
    return states(type="deal.TimedOut", **which)


def expired() -> list[str]:
    """Return which time-outs the process has told of."""
    return [event.name for event in recorded(Expired)]


def begin(order: str = "a") -> None:
    """Begin a deal, and let it settle."""
    put(Begun(order=order))
    drain()


def move(place: str = "hall") -> None:
    """Move the deal, and let it settle."""
    put(Moved(order="a", place=place))
    drain()
