"""The pages on which an operator lists, inspects, retries, discards, releases and pauses."""

from .deliveries import DeliveryAdmin, DeliveryAttemptAdmin
from .inbox import InboxMessageAdmin
from .interests import InterestAdmin
from .operator_actions import OperatorActionAdmin
from .outbox import OutboxMessageAdmin
from .partitions import PartitionAdmin
from .processes import ProcessStateAdmin
from .quarantine import QuarantinedMessageAdmin
from .stream import SnapshotAdmin, StoredEventAdmin
from .subscriptions import CheckpointAdmin

__all__ = [
    "CheckpointAdmin",
    "DeliveryAdmin",
    "DeliveryAttemptAdmin",
    "InboxMessageAdmin",
    "InterestAdmin",
    "OperatorActionAdmin",
    "OutboxMessageAdmin",
    "PartitionAdmin",
    "ProcessStateAdmin",
    "QuarantinedMessageAdmin",
    "SnapshotAdmin",
    "StoredEventAdmin",
]
