"""What the mall declares."""

from outbox_inbox.contexts import ContextConfig

from .contracts import Sold


class MallConfig(ContextConfig):
    """The publishing side."""

    name = "benchmarks.mall"
    label = "mall"
    publishes = (Sold,)
