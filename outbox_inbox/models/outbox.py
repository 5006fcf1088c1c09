"""The messages that a context has recorded and the relay sends on."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from .base import Kind, Message


class OutboxState(models.TextChoices):
    """Where a message of the outbox stands."""

    PENDING = "pending", _("pending")
    """To be sent, at once or when ``due_at`` has come."""
    WAITING = "waiting", _("waiting")
    """Behind a message of its key that could not be sent."""
    SENT = "sent", _("sent")
    """Confirmed: by the transport, or by the commit that put it into the inbox."""
    DEAD = "dead", _("dead")
    """Given up after its last attempt; a person retries or discards it."""
    DISCARDED = "discarded", _("discarded")
    """Set aside by a person; it will not be sent."""


class OutboxMessage(Message):
    """One message that a context recorded and has to send on. Only its state columns change."""

    id = models.BigAutoField(primary_key=True)
    message_id = models.UUIDField(unique=True)
    kind = models.CharField(max_length=11, choices=Kind)
    key_hash = models.BigIntegerField()
    hops = models.PositiveSmallIntegerField()
    partition = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=9, choices=OutboxState, default=OutboxState.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(null=True)
    """Not before this time: scheduled, or backing off. Null: at once."""
    holds = models.BooleanField(default=False)
    """It could not be sent, and the later messages of its key wait for it."""
    finished_at = models.DateTimeField(null=True)
    error = models.TextField(default="")

    class Meta:
        default_permissions = ("view",)
        permissions = [
            ("retry_outboxmessage", "Can retry outbox messages"),
            ("discard_outboxmessage", "Can discard outbox messages"),
        ]
        verbose_name = _("outbox message")
        indexes = [
            models.Index(
                "context",
                "partition",
                "id",
                condition=Q(state="pending", due_at__isnull=True),
                name="outbox_inbox_out_pending",
            ),
            models.Index(
                "context",
                "partition",
                "due_at",
                condition=Q(state="pending", due_at__isnull=False),
                name="outbox_inbox_out_due",
            ),
            models.Index(
                "context",
                "partition",
                "key",
                condition=Q(holds=True),
                name="outbox_inbox_out_holds",
            ),
            models.Index(
                "context",
                "partition",
                "key",
                condition=Q(state="waiting"),
                name="outbox_inbox_out_waiting",
            ),
            models.Index("context", condition=Q(state="dead"), name="outbox_inbox_out_dead"),
            models.Index("correlation_id", name="outbox_inbox_out_talk"),
        ]
