"""What the shop declares."""

from outbox_inbox.contexts import ContextConfig

from .contracts import Sold


class ShopConfig(ContextConfig):
    """The publishing side of the tests."""

    name = "tests.shop"
    label = "shop"
    publishes = (Sold,)
