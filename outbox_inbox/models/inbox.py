"""The messages that a context has received, and their deliveries."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from .base import ContextTable, Message


class DeliveryState(models.TextChoices):
    """Where a delivery stands."""

    READY = "ready", _("ready")
    """To be handled, at once or when ``due_at`` has come."""
    WAITING = "waiting", _("waiting")
    """Behind a delivery of its key and consumer that could not be handled."""
    DONE = "done", _("done")
    """Handled: committed together with its effects."""
    DEAD = "dead", _("dead")
    """Given up after its last attempt; a person retries or discards it."""
    DISCARDED = "discarded", _("discarded")
    """Set aside by a person; it will not be handled."""


class InboxMessage(Message):
    """One message that a context received. Never changed; it is also the memory of duplicates."""

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(max_length=50)
    key_hash = models.BigIntegerField()
    hops = models.PositiveSmallIntegerField()
    received_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("inbox message")
        constraints = [
            models.UniqueConstraint("message_id", "context", "source", name="outbox_inbox_in_once")
        ]
        indexes = [models.Index("correlation_id", name="outbox_inbox_in_talk")]


class Delivery(ContextTable):
    """One message for one consumer of the context. Narrow, since every handling changes it."""

    id = models.BigAutoField(primary_key=True)
    # No constraint in the database: rows are only made in the statement that follows their
    # message's, and the check would lock and rewrite the message row once for each delivery.
    message = models.ForeignKey(
        InboxMessage,
        on_delete=models.CASCADE,
        db_constraint=False,
        db_index=False,
        related_name="deliveries",
    )
    context = models.CharField(max_length=50)
    consumer = models.CharField(max_length=200)
    partition = models.PositiveSmallIntegerField()
    key = models.CharField(max_length=200, null=True)  # noqa: DJ001 - null is "no order", "" a key
    state = models.CharField(max_length=9, choices=DeliveryState, default=DeliveryState.READY)
    attempts = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(null=True)
    """Backing off until this time. Null: at once."""
    holds = models.BooleanField(default=False)
    """It could not be handled, and the later deliveries of its key and consumer wait for it."""
    finished_at = models.DateTimeField(null=True)
    error = models.TextField(default="")

    class Meta:
        default_permissions = ("view",)
        permissions = [
            ("retry_delivery", "Can retry deliveries"),
            ("discard_delivery", "Can discard deliveries"),
        ]
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        constraints = [
            models.UniqueConstraint("message", "consumer", name="outbox_inbox_delivery_once")
        ]
        indexes = [
            models.Index(
                "context",
                "partition",
                "id",
                condition=Q(state="ready", due_at__isnull=True),
                name="outbox_inbox_del_ready",
            ),
            models.Index(
                "context",
                "partition",
                "due_at",
                condition=Q(state="ready", due_at__isnull=False),
                name="outbox_inbox_del_due",
            ),
            models.Index(
                "context",
                "partition",
                "consumer",
                "key",
                condition=Q(holds=True),
                name="outbox_inbox_del_holds",
            ),
            models.Index(
                "context",
                "partition",
                "consumer",
                "key",
                condition=Q(state="waiting"),
                name="outbox_inbox_del_waiting",
            ),
            models.Index("context", condition=Q(state="dead"), name="outbox_inbox_del_dead"),
        ]

    def __str__(self) -> str:
        return f"{self.consumer} #{self.pk}"


class DeliveryAttempt(models.Model):
    """One failed attempt to handle a delivery, with its traceback. Never changed."""

    id = models.BigAutoField(primary_key=True)
    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="failures")
    number = models.PositiveIntegerField()
    failed_at = models.DateTimeField()
    error = models.TextField()
    traceback = models.TextField()

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("delivery attempt")

    def __str__(self) -> str:
        return f"attempt {self.number}: {self.error}"
