"""A clock of the database that is set while the queues are in use."""

from datetime import timedelta

from outbox_inbox.models import Checkpoint, Delivery, Interest, OutboxMessage, Partition

_STORED = (
    (Partition, ("last_run_at", "retry_at")),
    (OutboxMessage, ("due_at", "recorded_at")),
    (Delivery, ("due_at",)),
    (Checkpoint, ("retry_at", "changed_at")),
    (Interest, ("confirmed_at", "retired_at")),
)


def put_back(**duration: float) -> None:
    """Put the clock back: whatever is stored is later than it was, seen from now."""
    delta = timedelta(**duration)
    for model, names in _STORED:
        for row in model._default_manager.all():
            changed = [name for name in names if getattr(row, name) is not None]
            for name in changed:
                setattr(row, name, getattr(row, name) + delta)
            if changed:
                row.save(update_fields=changed)


def put_forward(**duration: float) -> None:
    """Put the clock forward."""
    put_back(**{unit: -number for unit, number in duration.items()})
