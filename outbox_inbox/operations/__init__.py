"""What operators do with the queues; commands and admin call these functions and report."""

from .counting import due, queue_stats
from .draining import WORK, Drained, Progress, Step, drain, drain_all, rounds
from .figures import ParkedKey, PartitionState, QueueStats
from .pausing import pause, resume
from .pruning import Pruned, prune
from .selecting import Selection, rows
from .solving import Report, discard, discard_rows, retry, retry_rows
from .spreading import Spread, repartition

__all__ = [
    "WORK",
    "Drained",
    "ParkedKey",
    "PartitionState",
    "Progress",
    "Pruned",
    "QueueStats",
    "Report",
    "Selection",
    "Spread",
    "Step",
    "discard",
    "discard_rows",
    "drain",
    "drain_all",
    "due",
    "pause",
    "prune",
    "queue_stats",
    "repartition",
    "resume",
    "retry",
    "retry_rows",
    "rounds",
    "rows",
]
