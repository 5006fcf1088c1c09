"""What mail declares: the new code subscribes to a contract more."""

from outbox_inbox.contexts import ContextConfig
from tests.rollout import NEW

from . import contracts


class MailConfig(ContextConfig):
    """A subscriber that both codes have."""

    name = "tests.rollout.mail"
    label = "mail"
    subscribes = (contracts.Paid, contracts.Shipped) if NEW else (contracts.Paid,)
