"""What the shop declares."""

from outbox_inbox.contexts import ContextConfig
from tests.rollout import NEW

from . import contracts


class ShopConfig(ContextConfig):
    """The publishing side."""

    name = "tests.rollout.shop"
    label = "shop"
    publishes = (contracts.Paid, contracts.Shipped) if NEW else (contracts.Paid,)
