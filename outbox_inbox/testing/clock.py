"""Time, as far as the queues know it: when a row is due, and when a partition is tried again."""

from datetime import datetime, timedelta

from django.db.models import Min, Model, Q

from outbox_inbox.contexts import contexts
from outbox_inbox.models import Checkpoint, Delivery, OutboxMessage, OutboxState, Partition

_TIMES: dict[type[Model], str] = {
    OutboxMessage: "due_at",
    Delivery: "due_at",
    Partition: "retry_at",
    Checkpoint: "retry_at",
}


def advance(delta: timedelta) -> None:
    """Let back-offs, outages and scheduled messages come due as if so much time had passed.

    The clock stands still; what lies ahead comes nearer by ``delta``. Nothing else becomes older.

    Arguments:
        delta: how much time is to have passed.
    """
    for using in sorted({context.database for context in contexts()}):
        for model, name in _TIMES.items():
            _bring_near(model, name, using, delta)


def _bring_near(model: type[Model], name: str, using: str, delta: timedelta) -> None:
    rows = model._default_manager.using(using)
    # Not as an expression: SQLite would store its result in another form than Django's.
    for pk, time in list(rows.filter(**{f"{name}__isnull": False}).values_list("pk", name)):
        rows.filter(pk=pk).update(**{name: time - delta})


def bring_next(until: datetime) -> bool:
    """Let what is scheduled for the next moment, up to ``until``, come due; false: nothing is."""
    scheduled = Q(state=OutboxState.PENDING, attempts=0, due_at__lte=until)
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
