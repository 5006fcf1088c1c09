"""What the store declares."""

from outbox_inbox.contexts import ContextConfig


class StoreConfig(ContextConfig):
    """The one context of the benchmarks."""

    name = "benchmarks.store"
    label = "store"
