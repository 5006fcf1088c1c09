"""The subscriptions of a context that is transferred: they continue where they were.

Without this, every projection would handle the whole stream again on the new database.
"""

from collections.abc import Mapping, Sequence

from django.db import connections

from outbox_inbox.exceptions import TransferRefused
from outbox_inbox.models import Checkpoint, StoredEvent, table
from outbox_inbox.queues.statements.dialects import dialect_class

from ..rebasing import set_unhandled, unhandled_events
from .route import Route


def copy_checkpoints(route: Route, shift: int) -> None:
    """Give the new side the checkpoints of the old one, in the caller's transaction.

    The events are there already, and both sides are closed to writers.

    Arguments:
        shift: what is added to positions on the new side.

    Raises:
        TransferRefused: the new side is an SQLite database, and a subscription has handled events
            behind some that it has not.
    """
    unhandled = {
        name: [position + shift for position in positions]
        for name, positions in unhandled_events(route.label, route.old).items()
    }
    old = Checkpoint.objects.using(route.old).filter(context=route.label)
    new = Checkpoint.objects.using(route.new).filter(context=route.label)
    kept = "paused", "retry_at", "failures", "error", "changed_at"
    new.delete()
    new.bulk_create(
        Checkpoint(**row, position=_new_position(route, row["subscription"], unhandled))
        for row in old.values("context", "subscription", *kept)
    )
    if dialect_class(connections[route.new]).has_snapshots:
        set_unhandled(connections[route.new], route.label, unhandled)


def _new_position(
    route: Route, subscription: str, all_unhandled: Mapping[str, Sequence[int]]
) -> int:
    """Return the position up to which all events are handled, and after which none is."""
    if dialect_class(connections[route.new]).has_snapshots:
        return 0
    rows = StoredEvent.objects.using(route.new).filter(context=route.label)
    unhandled = all_unhandled[subscription]
    if not unhandled:
        return rows.order_by("-pk").values_list("pk", flat=True).first() or 0
    # A PostgreSQL checkpoint can have gaps, a position cannot: a gap would be handled never or twice.
    if rows.filter(pk__gte=unhandled[0]).count() != len(unhandled):
        raise TransferRefused(
            f"the subscription {subscription!r} of {route.label!r} has handled events behind some "
            f"that it has not, which {table(StoredEvent)} on {route.new!r} cannot represent: abort "
            "the transfer with --abort, let the subscription catch up, and begin again"
        )
    return unhandled[0] - 1
