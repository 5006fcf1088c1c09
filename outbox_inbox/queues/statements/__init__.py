"""The hot statements: record, relay, intake, claim and mark, in raw SQL.

Each function is one round trip (two where it says so) on the connection of the caller's
transaction, and serves a whole batch. Compiling a query set costs ten times what these cost, and
an ORM object a row halves the relay; everything that is not hot uses the ORM.
"""

from .common import ATTEMPT, DELIVERY, INBOX, OUTBOX, PARTITION, STREAM
from .dispatching import Ready, claim, insert_attempt, mark_done, select_ready
from .due import Work, look, look_at_all
from .intake import (
    Interest,
    Received,
    insert_deliveries,
    insert_inbox,
    move_to_inbox,
    select_payloads,
)
from .locking import (
    SILENCE,
    Held,
    begin_run,
    end_run,
    guarded,
    lock_partition,
    rest_partition,
    set_run,
    wake_partition,
)
from .recording import Row, delete_stored, hold_stream, insert_outbox, insert_stream, stream_version
from .relaying import (
    Pending,
    bring_forward,
    mark_sent,
    select_pending,
    select_texts,
    spill,
    unfinished_keys,
)
from .states import (
    back_off,
    bury,
    count_attempt,
    idle_state,
    park,
    promote,
    release_deliveries,
    release_messages,
)

__all__ = [
    "ATTEMPT",
    "DELIVERY",
    "INBOX",
    "OUTBOX",
    "PARTITION",
    "SILENCE",
    "STREAM",
    "Held",
    "Interest",
    "Pending",
    "Ready",
    "Received",
    "Row",
    "Work",
    "back_off",
    "begin_run",
    "bring_forward",
    "bury",
    "claim",
    "count_attempt",
    "delete_stored",
    "end_run",
    "guarded",
    "hold_stream",
    "idle_state",
    "insert_attempt",
    "insert_deliveries",
    "insert_inbox",
    "insert_outbox",
    "insert_stream",
    "lock_partition",
    "look",
    "look_at_all",
    "mark_done",
    "mark_sent",
    "move_to_inbox",
    "park",
    "promote",
    "release_deliveries",
    "release_messages",
    "rest_partition",
    "select_payloads",
    "select_pending",
    "select_ready",
    "select_texts",
    "set_run",
    "spill",
    "stream_version",
    "unfinished_keys",
    "wake_partition",
]
