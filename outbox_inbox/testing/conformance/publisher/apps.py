"""What the publisher declares."""

from outbox_inbox.contexts import ContextConfig

from .contracts import Murmured, Said, Whispered


class PublisherConfig(ContextConfig):
    """The publishing side."""

    name = "outbox_inbox.testing.conformance.publisher"
    label = "conformance_publisher"
    publishes = (Said, Murmured, Whispered)
