"""The farm: the context, which only its tests install."""

from outbox_inbox.contexts import ContextConfig

from . import contracts


class FarmConfig(ContextConfig):
    """The publishing side of the border."""

    name = "tests.farm"
    label = "farm"
    publishes = (contracts.Sown, contracts.Watered, contracts.Reaped, contracts.Priced)
