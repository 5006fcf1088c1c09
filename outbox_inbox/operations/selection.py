"""Which messages an operator means: by context, queue, type, key, id or consumer.

The conditions on states are written as the partial indexes have them, with constants instead of
parameters, so that the databases find the few unfinished rows without reading the finished ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from django.db.models import BooleanField, Lookup, QuerySet
from django.db.models.expressions import RawSQL

from outbox_inbox.contexts import get_context
from outbox_inbox.models import Delivery, OutboxMessage, Queue

Model = type[OutboxMessage] | type[Delivery]
Rows = QuerySet[Any]
Which = Literal["failed", "dead", "unfinished"]

MODELS: dict[Queue, Model] = {Queue.OUTBOX: OutboxMessage, Queue.INBOX: Delivery}

IDLE = {Queue.OUTBOX: "pending", Queue.INBOX: "ready"}
"""Queue -> the state in which a row waits for its mover."""

DUE = "state = '{idle}' AND due_at IS NULL"
TIMED = "state = '{idle}' AND due_at IS NOT NULL"
WAITING = "state = 'waiting'"
DEAD = "state = 'dead'"
ASIDE = "state = 'quarantined'"

_WHICH: dict[Which, tuple[str, ...]] = {
    "failed": (DEAD, f"{TIMED} AND attempts > 0"),
    "dead": (DEAD,),
    "unfinished": (DUE, TIMED, WAITING, DEAD),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What an operator selects; what is left out does not restrict.

    Fields:
        context: label of the context.
        queue: outbox or inbox; None (default) means both.
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
        """The queues that are looked through."""
        chosen = tuple(MODELS) if self.queue is None else (self.queue,)
        if self.consumer is not None:
            return tuple(queue for queue in chosen if queue == Queue.INBOX)
        return chosen


def rows(selection: Selection, which: Which) -> Iterator[tuple[Queue, Rows]]:
    """Yield the selected rows of each queue, as query sets.

    Arguments:
        which: "failed" (dead, or backing off after a failed attempt), "dead", or "unfinished".

    Raises:
        NotAContext: there is no such context.
    """
    using = get_context(selection.context).database
    for queue in selection.queues:
        chosen = MODELS[queue].objects.using(using).filter(**_filters(selection, queue))
        yield queue, chosen.filter(condition(queue, which))


if TYPE_CHECKING:
    _Lookup = Lookup[bool]
else:
    # Django's class takes no type arguments when the program runs.
    _Lookup = Lookup


class AsWritten(_Lookup):
    """A condition in SQL. Django lets MySQL compare other expressions with TRUE, without index."""

    prepare_rhs = False

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        """Return the left side."""
        return self.process_lhs(compiler, connection)


def as_written(text: str) -> AsWritten:
    """Return a condition in SQL as one that query sets take."""
    return AsWritten(RawSQL(f"({text})", (), BooleanField()), rhs=True)


def condition(queue: Queue, which: Which) -> AsWritten:
    """Return the condition on the state of a queue's rows."""
    return as_written(sql(queue, which))


def sql(queue: Queue, which: Which) -> str:
    """Return the same condition as text."""
    return " OR ".join(f"({part.format(idle=IDLE[queue])})" for part in _WHICH[which])


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
