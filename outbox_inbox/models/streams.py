"""The local streams, their snapshots, and how far subscriptions have read."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .base import ContextTable, Kind, Message


class StoredEvent(Message):
    """One event of a local stream. Written once, never changed, never pruned.

    On PostgreSQL it has one column more, ``xid``: the id of the transaction that wrote it, by which
    subscriptions tell what is new to them (``queues/statements/checkpoints.py``).
    """

    position = models.BigAutoField(primary_key=True)
    stream = models.CharField(max_length=200)
    version = models.PositiveIntegerField()
    message_id = models.UUIDField(unique=True)
    kind = models.CharField(max_length=11, choices=Kind)
    key_hash = models.BigIntegerField()
    hops = models.PositiveSmallIntegerField()
    in_outbox = models.BooleanField()
    """The outbox got it as well, so the relay has nothing to do with it here."""

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("stored event")
        constraints = [
            models.UniqueConstraint("context", "stream", "version", name="outbox_inbox_stream")
        ]


class Snapshot(ContextTable):
    """What an aggregate had come to at a version of its stream: saves reading what led to it.

    It can be deleted at any time, and is then taken anew.
    """

    id = models.BigAutoField(primary_key=True)
    context = models.CharField(max_length=50)
    stream = models.CharField(max_length=200)
    version = models.PositiveIntegerField()
    """How many events of the stream are in it."""
    event_id = models.UUIDField()
    """Message id of the last of these, by which it belongs to this stream and no other."""
    schema_version = models.PositiveIntegerField()
    """Of the snapshot: what the code calls the meaning of its fields."""
    layout = models.CharField(max_length=16)
    """Changes with the fields of the class, and with their types."""
    payload = models.TextField()
    taken_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("snapshot")
        constraints = [
            models.UniqueConstraint("context", "stream", name="outbox_inbox_snapshot_stream")
        ]

    def __str__(self) -> str:
        return f"{self.context} {self.stream} at version {self.version}"


class Checkpoint(ContextTable):
    """How far a subscription has read the stream of all events of its context; and its lock.

    Who has the row locked reads on; what was read is handled in the transaction that moves the
    checkpoint. What the columns mean to each database is told in ``queues/statements/checkpoints.py``.
    """

    id = models.BigAutoField(primary_key=True)
    context = models.CharField(max_length=50)
    subscription = models.CharField(max_length=200)
    done = models.TextField(default="")
    """PostgreSQL: the snapshot whose events have all been handled."""
    target = models.TextField(null=True)  # noqa: DJ001 - null is "none", a snapshot is never ""
    """PostgreSQL: the snapshot that is being worked off."""
    position = models.BigIntegerField(default=0)
    """The last one that was handled; on PostgreSQL: of the target."""
    last = models.BigIntegerField(default=0)
    """PostgreSQL: the last position of the target."""
    size = models.BigIntegerField(default=0)
    """PostgreSQL: how many events the target has."""
    cluster = models.CharField(max_length=20, default="")
    """PostgreSQL: the system identifier of the server, whose transaction ids these are."""
    paused = models.BooleanField(default=False)
    retry_at = models.DateTimeField(null=True)
    """It failed; not before this time."""
    failures = models.PositiveIntegerField(default=0)
    """Failed tries in a row."""
    error = models.TextField(default="")
    changed_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ("view",)
        permissions = [("pause_checkpoint", "Can pause and resume subscriptions")]
        verbose_name = _("checkpoint")
        constraints = [
            models.UniqueConstraint("context", "subscription", name="outbox_inbox_checkpoint_once")
        ]

    def __str__(self) -> str:
        return f"{self.context} {self.subscription}"
