"""What operators do with the queues; commands and admin call these functions and report."""

from .counting import due, queue_stats
from .dead_letters import Report, discard, discard_rows, retry, retry_rows
from .draining import WORK, Drained, MoverTurn, Progress, drain, drain_all, rounds
from .pausing import pause, resume
from .pruning import Pruned, prune
from .quarantine import (
    QuarantineSelection,
    Released,
    discard_quarantined,
    discard_quarantined_rows,
    quarantined,
    release,
    release_rows,
)
from .read_models import ReadModelStats, pause_read_models, read_model_stats, resume_read_models
from .rebasing import Rebased, rebase
from .repartitioning import Spread, repartition
from .selection import Selection, rows
from .stats import ParkedKey, PartitionState, QueueStats
from .streams import StreamEntry, holders, read_entries, similar

__all__ = [
    "WORK",
    "Drained",
    "MoverTurn",
    "ParkedKey",
    "PartitionState",
    "Progress",
    "Pruned",
    "QuarantineSelection",
    "QueueStats",
    "ReadModelStats",
    "Rebased",
    "Released",
    "Report",
    "Selection",
    "Spread",
    "StreamEntry",
    "discard",
    "discard_quarantined",
    "discard_quarantined_rows",
    "discard_rows",
    "drain",
    "drain_all",
    "due",
    "holders",
    "pause",
    "pause_read_models",
    "prune",
    "quarantined",
    "queue_stats",
    "read_entries",
    "read_model_stats",
    "rebase",
    "release",
    "release_rows",
    "repartition",
    "resume",
    "resume_read_models",
    "retry",
    "retry_rows",
    "rounds",
    "rows",
    "similar",
]
