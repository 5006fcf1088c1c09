"""What sales declares."""

from outbox_inbox.contexts import ContextConfig


class SalesConfig(ContextConfig):
    """The context that stays where it is."""

    name = "tests.split.sales"
    label = "sales"
