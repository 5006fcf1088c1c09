"""The market: the context, which only its tests install."""

from outbox_inbox.contexts import ContextConfig

from . import contracts


class MarketConfig(ContextConfig):
    """The subscribing side of the border."""

    name = "tests.market"
    label = "market"
    subscribes = (contracts.Sown, contracts.Watered, contracts.Reaped, contracts.Priced)
