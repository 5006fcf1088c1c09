"""What an operator sees of the queues and streams: to list, inspect, solve and pause."""

from .deliveries import DeliveryAdmin, DeliveryAttemptAdmin
from .inbox import InboxMessageAdmin
from .outbox import OutboxMessageAdmin
from .partitions import PartitionAdmin
from .quarantine import QuarantinedMessageAdmin
from .stream import StoredEventAdmin
from .subscriptions import CheckpointAdmin

__all__ = [
    "CheckpointAdmin",
    "DeliveryAdmin",
    "DeliveryAttemptAdmin",
    "InboxMessageAdmin",
    "OutboxMessageAdmin",
    "PartitionAdmin",
    "QuarantinedMessageAdmin",
    "StoredEventAdmin",
]
