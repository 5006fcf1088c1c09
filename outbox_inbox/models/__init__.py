"""The tables: the local stream, the outbox, the inbox with its deliveries, and the partitions.

Every row names its context, so one set of tables per database serves all contexts that live there.
``payload`` and ``headers`` are canonical JSON **text**: written once by ``record()``, moved as they
are by the relay, and read only where an event is handled.

Each partial index below serves one statement of ``queues/statements``; its predicate is contained in
that statement's WHERE, and a test asks the planner whether it is used.
"""

from .base import Kind, Message, Queue, Row, table
from .inbox import Delivery, DeliveryAttempt, DeliveryState, InboxMessage
from .outbox import OutboxMessage, OutboxState
from .partitions import Partition
from .processes import ProcessState
from .quarantine import QuarantinedMessage, QuarantineState, Reason
from .streams import Checkpoint, Snapshot, StoredEvent
from .transfers import Transfer, TransferState

__all__ = [
    "Checkpoint",
    "Delivery",
    "DeliveryAttempt",
    "DeliveryState",
    "InboxMessage",
    "Kind",
    "Message",
    "OutboxMessage",
    "OutboxState",
    "Partition",
    "ProcessState",
    "QuarantineState",
    "QuarantinedMessage",
    "Queue",
    "Reason",
    "Row",
    "Snapshot",
    "StoredEvent",
    "Transfer",
    "TransferState",
    "table",
]
