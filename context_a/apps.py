"""What ordering declares: its label, and the contracts that it publishes and subscribes to."""

from outbox_inbox.contexts import ContextConfig

from .contracts import OrderCancelled, OrderOverdue, OrderPlaced
from .contracts.shipping import ShipmentDispatched


class OrderingConfig(ContextConfig):
    """The context "ordering"."""

    name = "context_a"
    label = "ordering"
    publishes = [OrderPlaced, OrderCancelled, OrderOverdue]
    subscribes = [ShipmentDispatched]
