"""The local streams, their snapshots, and the checkpoints of the subscriptions that read them."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from outbox_inbox.signals.escaping import visible

from .base import ContextTable, Kind, Message, database_default


class StoredEvent(Message):
    """One event of a local stream. It is never changed and never pruned.

    On PostgreSQL it has one column more, ``xid``: the id of the transaction that wrote it. By it
    subscriptions find out what is new to them (``queues/statements/catch_up.py``).
    """

    position = models.BigAutoField(primary_key=True)
    stream = models.CharField(max_length=200)
    version = models.PositiveIntegerField()
    # These came after the table. Code that does not know them goes on recording events, which it puts
    # into the outbox as well.
    kind = models.CharField(max_length=11, choices=Kind, db_default=database_default("'domain'"))
    key_hash = models.BigIntegerField(db_default=database_default("0"))
    hops = models.PositiveSmallIntegerField(db_default=database_default("0"))
    in_outbox = models.BooleanField(db_default=database_default("TRUE"))
    """The outbox has it as well, so the relay does not send it from the stream."""

    class Meta(ContextTable.Meta):
        verbose_name = _("stored event")
        constraints = [
            models.UniqueConstraint("context", "stream", "version", name="outbox_inbox_stream"),
            models.UniqueConstraint("message_id", "context", name="outbox_inbox_stream_once"),
        ]


class Snapshot(ContextTable):
    """The state of an aggregate at a version of its stream. It can be deleted at any time."""

    id = models.BigAutoField(primary_key=True)
    stream = models.CharField(max_length=200)
    version = models.PositiveIntegerField()
    """The number of events of the stream that are in it."""
    event_id = models.UUIDField()
    """Message id of the last of these: another stream has another event at this version."""
    schema_version = models.PositiveIntegerField()
    """The version that the class gives to the meaning of its fields."""
    layout = models.CharField(max_length=16)
    """A hash of the fields of the class and their types."""
    payload = models.TextField()
    taken_at = models.DateTimeField()

    class Meta(ContextTable.Meta):
        verbose_name = _("snapshot")
        constraints = [
            models.UniqueConstraint("context", "stream", name="outbox_inbox_snapshot_stream")
        ]

    def __str__(self) -> str:
        return f"{self.context} {visible(self.stream)} at version {self.version}"


class Checkpoint(ContextTable):
    """How far a subscription has read the stream of all events of its context.

    The worker that holds the row lock reads on, and handles the events in the transaction that
    moves the checkpoint. ``queues/statements/catch_up.py`` says what the columns mean on each
    database.
    """

    id = models.BigAutoField(primary_key=True)
    subscription = models.CharField(max_length=200)
    done = models.TextField(default="")
    """PostgreSQL: the snapshot whose events have all been handled."""
    target = models.TextField(null=True)  # noqa: DJ001 - null means none; a snapshot is never ""
    """PostgreSQL: the snapshot that is being worked off."""
    position = models.BigIntegerField(default=0)
    """The last position that was handled; on PostgreSQL: of the target."""
    last = models.BigIntegerField(default=0)
    """PostgreSQL: the last position of the target."""
    size = models.BigIntegerField(default=0)
    """PostgreSQL: the number of events of the target."""
    cluster = models.CharField(max_length=20, default="")
    """PostgreSQL: the system identifier of the server whose transaction ids these are."""
    paused = models.BooleanField(default=False)
    retry_at = models.DateTimeField(null=True)
    """It failed; the next try is not made before this time."""
    failures = models.PositiveIntegerField(default=0)
    """Failed tries in a row."""
    error = models.TextField(default="")
    changed_at = models.DateTimeField(null=True)

    class Meta(ContextTable.Meta):
        permissions = [("pause_checkpoint", "Can pause and resume subscriptions")]
        verbose_name = _("checkpoint")
        constraints = [
            models.UniqueConstraint("context", "subscription", name="outbox_inbox_checkpoint_once")
        ]

    def __str__(self) -> str:
        return f"{self.context} {self.subscription}"
