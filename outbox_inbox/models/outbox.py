"""The messages that a context has recorded, until the relay has sent them and later.

They are inserted in the transaction of the change that they report, so neither can be lost without
the other.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .base import ContextTable, Kind, Message, queue_indexes


class OutboxState(models.TextChoices):
    """The states of an outbox message."""

    PENDING = "pending", _("pending")
    """To be sent: at once, or when ``due_at`` has come."""
    WAITING = "waiting", _("waiting")
    """Blocked by an earlier message of its key that could not be sent."""
    SENT = "sent", _("sent")
    """Confirmed by the transport (rule O1), or by the commit that put it into the own inbox."""
    DEAD = "dead", _("dead")
    """Its last attempt has failed; an operator retries or discards it."""
    DISCARDED = "discarded", _("discarded")
    """An operator or `cancel` decided that it is not sent."""


class OutboxMessage(Message):
    """One message that a context has recorded and has to send. Only its state columns change."""

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=11, choices=Kind)
    partition = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=9, choices=OutboxState, default=OutboxState.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(null=True)
    """It is not sent before this time: it is scheduled, or backs off. Null: at once."""
    holds = models.BooleanField(default=False)
    """It could not be sent, and blocks the later messages of its key."""
    finished_at = models.DateTimeField(null=True)
    error = models.TextField(default="")

    class Meta(ContextTable.Meta):
        permissions = [
            ("retry_outboxmessage", "Can retry outbox messages"),
            ("discard_outboxmessage", "Can discard outbox messages"),
        ]
        verbose_name = _("outbox message")
        constraints = [
            models.UniqueConstraint("message_id", "context", name="outbox_inbox_out_once")
        ]
        indexes = [
            *queue_indexes("outbox_inbox_out", "pending", "key"),
            models.Index("correlation_id", name="outbox_inbox_out_talk"),
        ]
