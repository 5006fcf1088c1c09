"""What operators do with the queues; commands and admin call these functions and report."""

from .counting import due_count, queue_stats
from .dead_letters import ChangedRows, discard, discard_rows, retry, retry_rows
from .draining import MOVERS, Drained, MoverTurn, drain, mover_turns
from .known_names import NothingStored, explain_no_quarantined, explain_nothing
from .listeners import (
    GoneConsumer,
    Retired,
    UnknownConsumer,
    gone_consumers,
    missed_by,
    retire,
)
from .pausing import pause, pause_read_models, resume, resume_read_models
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
from .read_models import ReadModelStats, read_model_stats
from .rebasing import Rebased, rebase
from .renames import Renamed, rename_consumers
from .repartitioning import Repartitioned, repartition
from .row_locks import rows_locked
from .selection import Selection
from .stats import MOST_COUNTED, ParkedKey, PartitionState, QueueStats
from .streams import StreamEntry, contexts_with_stream, read_entries, suggest_stream

drain_all = drain  # An older name, which scripts still import.

__all__ = [
    "MOST_COUNTED",
    "MOVERS",
    "ChangedRows",
    "Drained",
    "GoneConsumer",
    "MoverTurn",
    "NothingStored",
    "ParkedKey",
    "PartitionState",
    "Pruned",
    "QuarantineSelection",
    "QueueStats",
    "ReadModelStats",
    "Rebased",
    "Released",
    "Renamed",
    "Repartitioned",
    "Retired",
    "Selection",
    "StreamEntry",
    "UnknownConsumer",
    "contexts_with_stream",
    "discard",
    "discard_quarantined",
    "discard_quarantined_rows",
    "discard_rows",
    "drain",
    "due_count",
    "explain_no_quarantined",
    "explain_nothing",
    "gone_consumers",
    "missed_by",
    "mover_turns",
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
    "rename_consumers",
    "repartition",
    "resume",
    "resume_read_models",
    "retire",
    "retry",
    "retry_rows",
    "rows_locked",
    "suggest_stream",
]
