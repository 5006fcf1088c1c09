"""What shipping declares: its label, and the contracts that it publishes and subscribes to."""

from outbox_inbox.contexts import ContextConfig

from .contracts import ShipmentDispatched
from .contracts.ordering import OrderCancelled, OrderOverdue, OrderPlaced


class ShippingConfig(ContextConfig):
    """The context "shipping"."""

    name = "context_b"
    label = "shipping"
    publishes = [ShipmentDispatched]
    subscribes = [OrderPlaced, OrderCancelled, OrderOverdue]
