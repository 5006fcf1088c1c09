"""The hot statements: record, relay, intake, claim and mark, in raw SQL.

Each function is one round trip (two where it says so) on the connection of the caller's
transaction, and serves a whole batch. To compile a query set costs ten times as much, and one ORM
object a row halves the speed of the relay; everything that is not hot uses the ORM.

What differs between the databases is in ``dialects/``.
"""

from .carried import carried
from .common import DELIVERY, INBOX, OUTBOX, STREAM
from .dialects.base import SILENCE
from .dispatching import (
    ReadyRow,
    UnknownType,
    claim_delivery,
    hold_deliveries,
    insert_attempt,
    mark_done,
    reopen_delivery,
    select_groups,
    select_ready,
    select_ready_among,
)
from .due import PartitionStatus, all_partition_statuses, partition_statuses
from .intake import (
    ReceivedRow,
    insert_deliveries,
    insert_inbox,
    move_to_inbox,
    select_contents,
    select_twins,
)
from .interests import (
    projected_condition,
    select_subscribers,
    subscribed_versions,
    wanted_types,
)
from .layouts import Layout, fetch_layout, follows_stream, in_force, partition_of
from .locking import (
    back_off_partition,
    begin_run,
    careful_left,
    clear_outage,
    end_run,
    lock_partition,
)
from .recording import (
    EventRow,
    Stored,
    delete_rows,
    insert_outbox,
    insert_stream,
    lock_stream,
    stream_version,
)
from .relaying import (
    PendingRow,
    mark_sent,
    move_spilled_to_front,
    select_pending,
    select_texts,
    spill_events,
    unfinished_keys,
)
from .states import (
    count_attempt,
    idle_state,
    mark_failed,
    park_followers,
    promote_due,
    unblock_deliveries,
    unblock_messages,
    uncount_attempt,
)
from .times import bring_back, restart
