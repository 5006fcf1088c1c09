"""Inbound: the shop's contract into the depot's language."""

from typing import Any

from outbox_inbox import inbound
from tests.support.script import play

from .contracts import Sold
from .events import Wanted


@inbound(Sold)
def want(event: Sold) -> Any:
    """Translate a sale into work, unless the script has something else in mind."""
    return play("want", event, otherwise=Wanted(order=event.order, number=event.number))
