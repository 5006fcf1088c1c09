"""Advances the time for the queues: when a row is due, and when a partition is retried.

The queues take the time from the database, which a test cannot patch.
"""

from datetime import datetime, timedelta

from django.db.models import Min, Model, Q

from outbox_inbox.conf.times import MOST
from outbox_inbox.contexts import contexts
from outbox_inbox.models import Checkpoint, Delivery, OutboxMessage, OutboxState, Partition
from outbox_inbox.queues.statements.dialects import stored_time

_TIMES: dict[type[Model], str] = {
    OutboxMessage: "due_at",
    Delivery: "due_at",
    Partition: "retry_at",
    Checkpoint: "retry_at",
}


def advance(delta: timedelta) -> None:
    """Let back-offs, outages and scheduled messages come due as if time had passed.

    The clock does not move: every time in the future is moved nearer by ``delta``. Nothing else
    becomes older.

    Raises:
        ValueError: ``delta`` is longer than 36,500 days.
    """
    if abs(delta) > MOST:
        raise ValueError(f"delta={delta!r}; expected at most {MOST}")
    for using in sorted({context.database for context in contexts()}):
        for model, name in _TIMES.items():
            rows = model._default_manager.using(using)
            # Not as an expression: SQLite would store the result in another format than Django's.
            for pk, time in list(rows.filter(**{f"{name}__isnull": False}).values_list("pk", name)):
                rows.filter(pk=pk).update(**{name: time - delta})


def advance_to_next(until: datetime) -> bool:
    """Let the messages scheduled next, up to ``until``, come due; False if there are none."""
    scheduled = Q(state=OutboxState.PENDING, attempts=0, due_at__lte=stored_time(until))
    found = {
        using: OutboxMessage.objects.using(using).filter(scheduled)
        for using in sorted({context.database for context in contexts()})
    }
    times = [rows.aggregate(first=Min("due_at"))["first"] for rows in found.values()]
    first = min((time for time in times if time is not None), default=None)
    if first is None:
        return False
    for rows in found.values():
        rows.filter(due_at=first).update(due_at=None)
    return True
