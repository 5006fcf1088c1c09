"""Keep rows as they are while one operator changes them.

Two operators may choose the same messages at the same moment. The operations change each of them once;
under this lock their caller sees which ones are its own, and which the other has changed.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import transaction
from django.db.models import Model, QuerySet

from outbox_inbox.models import Delivery, OutboxMessage, Queue
from outbox_inbox.queues.partitions import operator_lock
from outbox_inbox.queues.statements.moved import refusals_explained

from .selection import rows_by_context

_QUEUES: dict[type[Model], Queue] = {OutboxMessage: Queue.OUTBOX, Delivery: Queue.INBOX}


@contextmanager
def rows_locked(chosen: QuerySet[Any]) -> Iterator[None]:
    """Open a transaction in which no worker and no other operator changes rows of a query set.

    The operation on these rows belongs into it. It takes the same locks in the same order, so that
    two operators cannot block each other.

    Arguments:
        chosen: messages of the outbox, deliveries, or quarantined messages.

    Raises:
        NotAContext, OutboxInboxError: as `rows_by_context`.
        ContextMoved: a context is being transferred to another database, and is closed here.
    """
    queue = _QUEUES.get(chosen.model, Queue.INTAKE)
    # Before the transaction: on SQLite its first statement must be one that writes.
    locks = [(context, _partitions(queue, rows)) for context, rows in rows_by_context(chosen)]
    with ExitStack() as stack:
        stack.enter_context(refusals_explained())
        stack.enter_context(transaction.atomic(using=chosen.db))
        for context, numbers in locks:
            stack.enter_context(operator_lock(context, queue, numbers))
        yield


def _partitions(queue: Queue, rows: QuerySet[Any]) -> set[int] | None:
    if queue == Queue.INTAKE:
        return None
    return set(rows.order_by().values_list("partition", flat=True))
