"""Outbound: the shop's language into its contract."""

from typing import Any

from outbox_inbox import outbound
from tests.support.script import play

from .contracts import Sold
from .events import Checked


@outbound(Checked)
def announce(event: Checked) -> Any:
    """Tell the world, unless the script has something else in mind."""
    return play("announce", event, otherwise=Sold(order=event.order, number=event.number))
