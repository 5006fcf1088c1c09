"""What `queue_stats` returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from outbox_inbox.models import QuarantineReason, Queue

MOST_COUNTED = 10_000
"""What `queue_stats` and `read_model_stats` count up to by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedKey:
    """A key whose messages wait until an operator has solved the dead one in front.

    Fields:
        consumer: the consumer that failed; None in an outbox.
    """

    key: str
    consumer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionState:
    """A partition that workers leave alone at the moment.

    Fields:
        queue: outbox, inbox, or intake (where messages are received).
        state: "paused" by an operator, "backing off" from an outage until the next success, or
            "missing": rows name it and it does not exist, since a process wrote them with another
            number of partitions.
        reason: the outage's error, or empty.
        until: when one that is backing off is tried again; None: the next try is due.
        outages: how many tries in a row an outage has ended.
    """

    queue: Queue
    number: int
    state: str
    reason: str = ""
    until: datetime | None = None
    outages: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """One queue of one context at one moment.

    Fields:
        context, queue, database: which one: label, outbox or inbox, alias.
        depth: unfinished messages (in an inbox: deliveries) by state; every state is there:
            "pending" (in an inbox "ready"), "backing_off", "waiting", "dead".
        scheduled: how many are due in the future and were never tried, such as time-outs of
            processes; they do not count as unfinished. One that has come due is pending.
        oldest: age in seconds of the oldest unfinished one, by the database's clock; for one that
            was scheduled since it was due; None when all are finished.
        parked_keys: how many keys are parked.
        parked: the first of them; see `queue_stats`.
        partitions: those that are paused, backing off or missing.
        quarantine: in an inbox, how many messages are quarantined, by reason; empty in an outbox.
        read_only: the database can be read, but not written, so that nothing is recorded or moved.
        minimums: the figures that were counted up to their limit, while there are more: states,
            "scheduled", "parked_keys", "quarantined". The age is then that of the oldest counted.
    """

    context: str
    queue: Queue
    database: str
    depth: Mapping[str, int]
    scheduled: int
    oldest: float | None
    parked_keys: int
    parked: Sequence[ParkedKey]
    partitions: Sequence[PartitionState]
    quarantine: Mapping[QuarantineReason, int] = field(default_factory=dict)
    read_only: bool = False
    minimums: frozenset[str] = frozenset()

    @property
    def quarantined(self) -> int:
        """How many messages are quarantined."""
        return sum(self.quarantine.values())

    @property
    def unfinished(self) -> int:
        """How many should have been finished by now; dead ones count, scheduled ones do not."""
        return sum(self.depth.values())

    def is_minimum(self, figure: str) -> bool:
        """Return whether there are more than a figure says; also of "unfinished"."""
        states = self.depth if figure == "unfinished" else (figure,)
        return not self.minimums.isdisjoint(states)

    @property
    def dead(self) -> int:
        """How many are dead."""
        return self.depth["dead"]
