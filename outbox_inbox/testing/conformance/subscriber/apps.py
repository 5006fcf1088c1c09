"""What the subscriber declares."""

from outbox_inbox.contexts import ContextConfig

from .contracts import Murmured, Said


class SubscriberConfig(ContextConfig):
    """The subscribing side."""

    name = "outbox_inbox.testing.conformance.subscriber"
    label = "conformance_subscriber"
    subscribes = (Said, Murmured)
