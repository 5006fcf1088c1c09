"""What the branch does with the messages it receives."""

from benchmarks.mall.contracts import Sold
from outbox_inbox import handles


@handles(Sold)
def note(event: Sold) -> None:
    """Do nothing: the benchmarks of transports end at the inbox."""
