"""Which messages an operator means: by context, queue, type, key, id or consumer.

The conditions on states are written as the partial indexes have them, with constants instead of
parameters: otherwise the databases read the finished rows to find the few unfinished ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from django.db.models import BooleanField, Lookup, QuerySet
from django.db.models.expressions import RawSQL

from outbox_inbox.contexts import Context, get_context
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import Delivery, OutboxMessage, Queue
from outbox_inbox.queues.wakeup import MoverName

Rows = QuerySet[Any]
StateGroup = Literal["failed", "dead", "unfinished"]
"""Failed: dead, or backing off after a failed attempt."""

MODELS: dict[Queue, type[OutboxMessage] | type[Delivery]] = {
    Queue.OUTBOX: OutboxMessage,
    Queue.INBOX: Delivery,
}

MOVER_OF: dict[Queue, MoverName] = {
    Queue.OUTBOX: "relay",
    Queue.INTAKE: "receive",
    Queue.INBOX: "dispatch",
}

IDLE = {Queue.OUTBOX: "pending", Queue.INBOX: "ready"}
"""Queue -> the state in which a row waits for its mover."""

DUE = "state = '{idle}' AND due_at IS NULL"
TIMED = "state = '{idle}' AND due_at IS NOT NULL"
WAITING = "state = 'waiting'"
DEAD = "state = 'dead'"
QUARANTINED = "state = 'quarantined'"

_CONDITIONS: dict[StateGroup, tuple[str, ...]] = {
    "failed": (DEAD, f"{TIMED} AND attempts > 0"),
    "dead": (DEAD,),
    "unfinished": (DUE, TIMED, WAITING, DEAD),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which messages an operator selects; a field that is None (default) does not restrict.

    Fields:
        context: label of the context; NotAContext is raised for an unknown one.
        queue: outbox or inbox.
        type: stored type name of the messages.
        key: their key.
        id: the message id; in the inbox, all deliveries of that message.
        consumer: name of the consumer; only deliveries have one.
    """

    context: str
    queue: Queue | None = None
    type: str | None = None
    key: str | None = None
    id: UUID | None = None
    consumer: str | None = None

    @property
    def queues(self) -> tuple[Queue, ...]:
        """The queues that are searched."""
        searched = tuple(MODELS) if self.consumer is None else (Queue.INBOX,)
        return tuple(each for each in searched if self.queue in (None, each))


def selected_rows(selection: Selection, states: StateGroup) -> Iterator[tuple[Queue, Rows]]:
    """Yield the selected rows of each queue, as query sets."""
    using = get_context(selection.context).database
    for queue in selection.queues:
        chosen = MODELS[queue].objects.using(using).filter(**_filters(selection, queue))
        yield queue, chosen.filter(has_state(queue, states))


def rows_by_context(chosen: Rows) -> Iterator[tuple[Context, Rows]]:
    """Split a query set, which may have rows of any contexts, by context.

    Raises:
        NotAContext: a row's context does not exist any more.
        OutboxInboxError: a row's context has been moved to another database.
    """
    for label in sorted(set(chosen.order_by().values_list("context", flat=True))):
        context = get_context(label)
        # An id identifies a row in its own database only: elsewhere it is another message.
        if context.database != chosen.db:
            raise OutboxInboxError(
                f"these messages are in the database {chosen.db!r}, and the context "
                f"{context.label!r} lives on {context.database!r} now; select them there"
            )
        yield context, chosen.filter(context=label)


def checked_reason(reason: str) -> str:
    """Return the reason of a discard without white space around it.

    Raises:
        ValueError: it is empty.
    """
    if not (text := reason.strip()):
        raise ValueError("a reason must be given: it is kept with the message")
    return text


class RawCondition(Lookup):
    """A condition in SQL. Django lets MySQL compare other expressions with TRUE, without index."""

    prepare_rhs = False

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        """Return the left side."""
        return self.process_lhs(compiler, connection)


def raw_condition(text: str) -> RawCondition:
    """Return a condition in SQL as one that query sets take."""
    return RawCondition(RawSQL(f"({text})", (), BooleanField()), rhs=True)


def has_state(queue: Queue, states: StateGroup) -> RawCondition:
    """Return the condition on the state of a queue's rows."""
    return raw_condition(state_sql(queue, states))


def state_sql(queue: Queue, states: StateGroup) -> str:
    """Return the same condition as text."""
    return " OR ".join(f"({part.format(idle=IDLE[queue])})" for part in _CONDITIONS[states])


def _filters(selection: Selection, queue: Queue) -> dict[str, Any]:
    prefix = "" if queue == Queue.OUTBOX else "message__"
    wanted = {
        "context": selection.context,
        f"{prefix}type": selection.type,
        "key": selection.key,
        f"{prefix}message_id": selection.id,
        "consumer": selection.consumer,
    }
    return {name: value for name, value in wanted.items() if value is not None}
