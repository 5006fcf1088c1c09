"""What an operator sees of the queues and streams: to list, inspect, retry, discard and pause."""

from .deliveries import DeliveryAdmin, DeliveryAttemptAdmin
from .inbox import InboxMessageAdmin
from .outbox import OutboxMessageAdmin
from .partitions import PartitionAdmin
from .stream import StoredEventAdmin

__all__ = [
    "DeliveryAdmin",
    "DeliveryAttemptAdmin",
    "InboxMessageAdmin",
    "OutboxMessageAdmin",
    "PartitionAdmin",
    "StoredEventAdmin",
]
