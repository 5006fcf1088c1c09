"""The yard: the context, which only its tests install."""

from outbox_inbox.contexts import ContextConfig
from tests.shop.contracts import Sold


class YardConfig(ContextConfig):
    """A context that listens to itself and to the shop."""

    name = "tests.yard"
    label = "yard"
    subscribes = (Sold,)
