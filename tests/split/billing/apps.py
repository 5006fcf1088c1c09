"""What billing declares."""

from outbox_inbox.contexts import ContextConfig


class BillingConfig(ContextConfig):
    """The context that moves out."""

    name = "tests.split.billing"
    label = "billing"
