"""The tables: stream, outbox, inbox with its deliveries, partitions, layouts, and interests.

Every row names its context, so one set of tables per database serves all contexts that live there.
``payload`` and ``headers`` are canonical JSON **text**: written once by ``record()``, moved as they
are by the relay, and read only where an event is handled.

Each partial index below serves one statement of ``queues/statements``; its predicate is contained in
that statement's WHERE, and a test asks the planner whether it is used.
"""

from .base import ContextTable, Kind, Message, Queue, table
from .inbox import Delivery, DeliveryAttempt, DeliveryState, InboxMessage
from .interests import Interest, InterestKind
from .layouts import QueueLayout
from .operators import OperatorAction, OperatorVerb
from .outbox import OutboxMessage, OutboxState
from .partitions import Partition
from .processes import ProcessState
from .quarantine import QuarantinedMessage, QuarantineReason, QuarantineState
from .streams import Checkpoint, Snapshot, StoredEvent
from .transfers import Transfer, TransferState
