"""The subscriptions of a context that is handed over: they go on where they were."""

from collections.abc import Sequence

from django.db import connections

from outbox_inbox.exceptions import TransferRefused
from outbox_inbox.models import Checkpoint, StoredEvent, table
from outbox_inbox.queues.statements.dialects import dialect_class

from ..rebasing import apply, unhandled
from .route import Route


def repeat(way: Route, shift: int) -> None:
    """Give the new side the checkpoints of the old one, in the caller's transaction.

    The events are there already, and nobody can write on either side.

    Arguments:
        shift: what is added to positions on the new side.

    Raises:
        TransferRefused: the new side, an SQLite database, cannot tell what is not handled yet.
    """
    left = {
        name: [position + shift for position in positions]
        for name, positions in unhandled(way.label, way.old).items()
    }
    new = Checkpoint.objects.using(way.new).filter(context=way.label)
    new.delete()
    new.bulk_create(
        Checkpoint(
            context=each.context,
            subscription=each.subscription,
            paused=each.paused,
            retry_at=each.retry_at,
            failures=each.failures,
            error=each.error,
            changed_at=each.changed_at,
            position=_position(way, each.subscription, left[each.subscription]),
        )
        for each in Checkpoint.objects.using(way.old).filter(context=way.label)
    )
    if dialect_class(connections[way.new]).has_snapshots:
        apply(connections[way.new], way.label, left)


def _position(way: Route, subscription: str, left: Sequence[int]) -> int:
    """Return behind which position all is new, and before which nothing is."""
    if dialect_class(connections[way.new]).has_snapshots:
        return 0
    rows = StoredEvent.objects.using(way.new).filter(context=way.label)
    if not left:
        return rows.order_by("-pk").values_list("pk", flat=True).first() or 0
    if rows.filter(pk__gte=left[0]).count() != len(left):
        raise TransferRefused(
            f"the subscription {subscription!r} of {way.label!r} has handled events behind some that "
            f"it has not, which {table(StoredEvent)} on {way.new!r} cannot tell apart: take the "
            "hand-over back with --abort, let it catch up, and begin again"
        )
    return left[0] - 1
