"""The envelope: what is known of a message besides its event, such as its source, time and key."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """One message, as it was recorded.

    Attributes:
        id: the message's id; a UUIDv7 unless the caller of ``record()`` gave one.
        type: the stored type name, such as ``ordering.order_placed``.
        version: of the event's class, from 1.
        source: the label of the context that recorded it.
        key: what orders it; None means no order.
        time: when it was recorded, aware, by the database's clock.
        correlation_id: one for a whole conversation: the id of the message that began it.
        causation_id: the message whose handling recorded this one, or None.
        headers: text by name, from the caller of ``record()``.
        data: the event as canonical JSON. Not in the repr, since it may be long and private.
    """

    id: UUID
    type: str
    version: int
    source: str
    key: str | None = None
    time: datetime
    correlation_id: UUID
    causation_id: UUID | None = None
    headers: dict[str, str] = field(default_factory=dict, hash=False)
    data: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Handling:
    """The message that is being handled, and how many messages led to it (0 for the first)."""

    envelope: Envelope
    hops: int


#: The message being handled, for correlation and causation ids; None outside of a handler.
current: ContextVar[Handling | None] = ContextVar("outbox_inbox_current", default=None)
