"""Snapshots of aggregates: a shortcut to a version of a stream, never the truth.

A snapshot is used only if it leads to the same state as its stream. The message id of its last event
binds it to that stream: a database that was restored from a backup may have a shorter stream, or
another one of that name. It also has a schema version and the layout of its class. A snapshot that
does not fit is ignored, and replaced when the next one is due.
"""

from typing import Any

from django.db import connections
from django.db.models import OuterRef, Subquery
from django.utils import timezone

from outbox_inbox import contexts, signals
from outbox_inbox.contexts import Context
from outbox_inbox.events import codec
from outbox_inbox.exceptions import UnreadableMessage
from outbox_inbox.models import Snapshot, StoredEvent
from outbox_inbox.queues.attempts import error_line, line_of


def find_snapshot(
    context: Context, stream: str, cls: type, schema_version: int
) -> tuple[Any, int] | None:
    """Return state and version of the snapshot of a stream; None: it has none that can be used.

    A snapshot of another schema is ignored silently, as is normal after a deployment; one that cannot
    be read, or that belongs to another stream, with the signal ``snapshot_ignored``.

    Raises:
        TypeError: the class has fields that cannot be stored.
    """
    layout = codec.fingerprint(cls)
    ends_with = StoredEvent.objects.filter(
        context=OuterRef("context"), stream=OuterRef("stream"), version=OuterRef("version")
    )
    row = (
        Snapshot.objects.using(context.database)
        .filter(context=context.label, stream=stream)
        .annotate(ends_with=Subquery(ends_with.values("message_id")))
        .first()
    )
    if row is None or (row.schema_version, row.layout) != (schema_version, layout):
        return None
    if row.event_id != row.ends_with:
        _announce_ignored(row, "the stream does not have the event that it ends with")
        return None
    try:
        return codec.decode_state(cls, row.payload), row.version
    except UnreadableMessage as error:
        _announce_ignored(row, f"{type(error).__name__}: {error}")
        return None


def save_snapshot(context: Context, row: Snapshot) -> None:
    """Store a snapshot in place of the older one, in the transaction of an append to its stream.

    The append has reserved the next version of the stream, so no other transaction saves a snapshot
    of it now, and one that comes later has more events: a newer snapshot is never overwritten.
    """
    # Not the function Now(): on MySQL it is in the time zone of the server, on SQLite always in UTC.
    row.taken_at = timezone.now()
    replaced = ["version", "event_id", "schema_version", "layout", "payload", "taken_at"]
    # MySQL cannot name the constraint and takes any that is unique; here only the stream is.
    targeted = connections[context.database].features.supports_update_conflicts_with_target
    Snapshot.objects.using(context.database).bulk_create(
        [row],
        update_conflicts=True,
        update_fields=replaced,
        unique_fields=["context", "stream"] if targeted else None,
    )


def forget_snapshots(
    context: str | Context, stream: str | None = None, *, using: str | None = None
) -> int:
    """Delete the snapshot of a stream, or all of a context; return how many there were.

    No event is lost: streams are read from their beginning, and new snapshots are taken. Works in and
    outside of a transaction.

    Arguments:
        context: the context, or its label.
        stream: its name; default None: all of the context.
        using: the alias of a database; default: that of the context.

    Raises:
        NotAContext: there is no such context.
    """
    found = contexts.get_context(context) if isinstance(context, str) else context
    rows = Snapshot.objects.using(using or found.database).filter(context=found.label)
    return (rows if stream is None else rows.filter(stream=stream)).delete()[0]


def announce_refused(context: Context, stream: str, version: int, error: Exception) -> None:
    """Announce that a snapshot was due, and that the state cannot be stored."""
    signals.snapshot_refused.send_robust(
        sender=context.label,
        context=context.label,
        stream=stream,
        version=version,
        error=error_line(error),
    )


def _announce_ignored(row: Snapshot, reason: str) -> None:
    signals.snapshot_ignored.send_robust(
        sender=row.context,
        context=row.context,
        stream=row.stream,
        version=row.version,
        error=line_of(reason),
    )
