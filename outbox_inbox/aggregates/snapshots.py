"""Snapshots of aggregates: a shortcut to a version of a stream, never the truth.

A snapshot is used only if it leads to the same state as its stream. It is bound to the event that
it ends with by that event's message id, so it is never ahead of its stream, nor of another stream
of the same name (restored, or written after a rollback). It has a schema version and the layout of
the class it was taken of. Whatever does not fit is ignored, and replaced in due course.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import OuterRef, Subquery
from django.db.models.functions import Now

from outbox_inbox import contexts, signals
from outbox_inbox.contexts import Context
from outbox_inbox.events import codec
from outbox_inbox.exceptions import UnreadableMessage
from outbox_inbox.models import Snapshot, StoredEvent


@dataclass(frozen=True, slots=True)
class Taken:
    """A state as text, with its class, its schema version and its place in the stream."""

    cls: type
    schema_version: int
    version: int
    event_id: UUID
    payload: str


def find(context: Context, stream: str, cls: type, schema_version: int) -> tuple[Any, int] | None:
    """Return the state in the snapshot of a stream, and its version; None: there is none to use.

    A snapshot of another schema is passed over in silence, as after a deployment; one that
    cannot be read, or that is none of this stream, with the signal ``snapshot_ignored``.

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
        _ignore(row, "the stream does not have the event that it ends with")
        return None
    try:
        return codec.decode_state(cls, row.payload), row.version
    except UnreadableMessage as error:
        _ignore(row, f"{type(error).__name__}: {error}")
        return None


def save(context: Context, stream: str, taken: Taken) -> None:
    """Store a snapshot in place of the one before, in the transaction of an append to its stream.

    That transaction is the only one that appends to the stream, so no other is here now, and one
    that comes later has more events.
    """
    row = Snapshot(
        context=context.label,
        stream=stream,
        version=taken.version,
        event_id=taken.event_id,
        schema_version=taken.schema_version,
        layout=codec.fingerprint(taken.cls),
        payload=taken.payload,
        taken_at=Now(),
    )
    replaced = ["version", "event_id", "schema_version", "layout", "payload", "taken_at"]
    # MySQL has no name for what is in conflict: whatever is unique. Here that is the stream.
    targeted = connections[context.database].features.supports_update_conflicts_with_target
    Snapshot.objects.using(context.database).bulk_create(
        [row],
        update_conflicts=True,
        update_fields=replaced,
        unique_fields=["context", "stream"] if targeted else None,
    )


def forget(context: str | Context, stream: str | None = None, *, using: str | None = None) -> int:
    """Delete the snapshot of a stream, or all of the context, and return how many there were.

    Nothing gets lost: the streams are read from their beginning, and snapshots taken anew.

    Arguments:
        stream: its name; default None, all of the context.
        using: the alias of a database; default: where the context lives.

    Raises:
        NotAContext: there is no such context.
    """
    owner = contexts.get_context(context) if isinstance(context, str) else context
    rows = Snapshot.objects.using(using or owner.database).filter(context=owner.label)
    return (rows if stream is None else rows.filter(stream=stream)).delete()[0]


def _ignore(row: Snapshot, reason: str) -> None:
    signals.snapshot_ignored.send_robust(
        sender=row.context,
        context=row.context,
        stream=row.stream,
        version=row.version,
        error=" ".join(reason.split())[:500],
    )
