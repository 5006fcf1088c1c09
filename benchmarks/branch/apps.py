"""What the branch declares."""

from benchmarks.mall.contracts import Sold
from outbox_inbox.contexts import ContextConfig


class BranchConfig(ContextConfig):
    """The subscribing side."""

    name = "benchmarks.branch"
    label = "branch"
    subscribes = (Sold,)
