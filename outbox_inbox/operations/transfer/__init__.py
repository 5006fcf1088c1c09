"""Transfer: move a living context to another database, with its tables and its queues."""

from .procedure import (
    ShowPhase,
    TableReport,
    TransferReport,
    abort_transfer,
    clean_old_side,
    plan_transfer,
    transfer,
    verify_transfer,
)
from .tables import NOT_COPIED, QUEUE_TABLES, QueueTable

__all__ = [
    "NOT_COPIED",
    "QUEUE_TABLES",
    "QueueTable",
    "ShowPhase",
    "TableReport",
    "TransferReport",
    "abort_transfer",
    "clean_old_side",
    "plan_transfer",
    "transfer",
    "verify_transfer",
]
