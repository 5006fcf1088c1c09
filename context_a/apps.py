"""What ordering declares to the world."""

from outbox_inbox.contexts import ContextConfig

from .contracts import OrderCancelled, OrderPlaced
from .contracts.shipping import ShipmentDispatched


class OrderingConfig(ContextConfig):
    """The context "ordering"."""

    name = "context_a"
    label = "ordering"
    publishes = [OrderPlaced, OrderCancelled]
    subscribes = [ShipmentDispatched]
