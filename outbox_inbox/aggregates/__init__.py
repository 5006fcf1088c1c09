"""Load the state of an aggregate by folding its stream, and append what it decides.

An aggregate is plain Python and knows nothing of this module: any class, or any value, and a
function that takes in the next event.

    ORDERS = Repository("ordering", start=Order, fold=Order.apply, stream="order-{}")

    @retry_on_conflict
    def cancel_order(order_id: str) -> None:
        with ORDERS.atomic():
            order = ORDERS.load(order_id)
            order.append(order.state.cancel())
"""

from outbox_inbox.conf import Backoff

from .conflicts import SOON, retry_on_conflict
from .repository import Loaded, Repository
from .snapshots import forget_snapshots

__all__ = ["SOON", "Backoff", "Loaded", "Repository", "forget_snapshots", "retry_on_conflict"]
