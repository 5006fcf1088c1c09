"""What the bank declares; the old code does not have it."""

from outbox_inbox.contexts import ContextConfig

from . import contracts


class BankConfig(ContextConfig):
    """A subscriber that only the new code has."""

    name = "tests.rollout.bank"
    label = "bank"
    subscribes = (contracts.Shipped,)
