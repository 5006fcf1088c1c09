"""What the depot declares."""

from outbox_inbox.contexts import ContextConfig

from .contracts import Sold


class DepotConfig(ContextConfig):
    """The subscribing side of the tests."""

    name = "tests.depot"
    label = "depot"
    subscribes = (Sold,)
