"""What the bystander declares."""

from outbox_inbox.contexts import ContextConfig

from .contracts import Murmured, Said


class BystanderConfig(ContextConfig):
    """Another subscribing side."""

    name = "outbox_inbox.testing.conformance.bystander"
    label = "conformance_bystander"
    subscribes = (Said, Murmured)
