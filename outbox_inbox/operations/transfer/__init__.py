"""Transfer: hand a living context over to another database, with its tables and its queues."""

from .handover import Handover, MovedTable, Show, abort, clean, plan, transfer, verify
from .tables import APART, QUEUES, Moved

__all__ = [
    "APART",
    "QUEUES",
    "Handover",
    "Moved",
    "MovedTable",
    "Show",
    "abort",
    "clean",
    "plan",
    "transfer",
    "verify",
]
