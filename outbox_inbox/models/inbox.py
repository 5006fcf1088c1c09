"""The messages that a context has received, and their deliveries.

A delivery is one message for one consumer. Were there one row for all consumers, a consumer that
fails would block the others, or have them handle the message again.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from outbox_inbox.signals.escaping import visible

from .base import ContextTable, Message, queue_indexes


class DeliveryState(models.TextChoices):
    """The states of a delivery."""

    READY = "ready", _("ready")
    """To be handled: at once, or when ``due_at`` has come."""
    WAITING = "waiting", _("waiting")
    """Blocked by an earlier delivery of its key and consumer that could not be handled."""
    DONE = "done", _("done")
    """Handled: this state was committed together with the effects (rule O5)."""
    DEAD = "dead", _("dead")
    """Its last attempt has failed; an operator retries or discards it."""
    DISCARDED = "discarded", _("discarded")
    """An operator decided that it is not handled."""


class InboxMessage(Message):
    """One message that a context has received. It changes once, when its texts are emptied.

    A message that comes again is refused by the unique constraint, so a row must outlive every
    possible redelivery (rules O7 and O8). Its payload and headers go when its deliveries go.
    """

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(max_length=50)
    received_at = models.DateTimeField()
    digest = models.CharField(max_length=129, null=True)  # noqa: DJ001 - null: not emptied
    """Of an emptied message: by it a message with the same id is compared (``queues/contents.py``)."""
    emptied_at = models.DateTimeField(null=True)
    """When payload and headers were removed; null: they are there."""

    class Meta(ContextTable.Meta):
        verbose_name = _("inbox message")
        constraints = [
            models.UniqueConstraint("message_id", "context", "source", name="outbox_inbox_in_once")
        ]
        indexes = [
            models.Index("correlation_id", name="outbox_inbox_in_talk"),
            # Emptied messages stay for weeks: a search for those to be emptied must not read them.
            models.Index(
                "id", condition=models.Q(emptied_at__isnull=True), name="outbox_inbox_in_full"
            ),
        ]


class Delivery(ContextTable):
    """One message for one consumer of the context. Narrow: every attempt rewrites the row."""

    id = models.BigAutoField(primary_key=True)
    # No foreign key in the database: rows are only inserted right after their message, in its
    # transaction, and the check would lock and rewrite the message's row once for each delivery.
    message = models.ForeignKey(
        InboxMessage,
        on_delete=models.CASCADE,
        db_constraint=False,
        db_index=False,
        related_name="deliveries",
    )
    consumer = models.CharField(max_length=200)
    partition = models.PositiveSmallIntegerField()
    key = models.CharField(max_length=200, null=True)  # noqa: DJ001 - null is "no order", "" a key
    state = models.CharField(max_length=9, choices=DeliveryState, default=DeliveryState.READY)
    attempts = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(null=True)
    """The next attempt is not made before this time. Null: at once."""
    holds = models.BooleanField(default=False)
    """It could not be handled, and blocks the later deliveries of its key and consumer."""
    finished_at = models.DateTimeField(null=True)
    error = models.TextField(default="")

    class Meta(ContextTable.Meta):
        permissions = [
            ("retry_delivery", "Can retry deliveries"),
            ("discard_delivery", "Can discard deliveries"),
        ]
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        constraints = [
            models.UniqueConstraint("message", "consumer", name="outbox_inbox_delivery_once")
        ]
        indexes = queue_indexes("outbox_inbox_del", "ready", "consumer", "key")

    def __str__(self) -> str:
        return f"{self.consumer} #{self.pk}"


class DeliveryAttempt(models.Model):
    """One failed attempt to handle a delivery, with its traceback. It never changes."""

    id = models.BigAutoField(primary_key=True)
    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="failures")
    number = models.PositiveIntegerField()
    failed_at = models.DateTimeField()
    error = models.TextField()
    traceback = models.TextField()

    class Meta(ContextTable.Meta):
        verbose_name = _("delivery attempt")

    def __str__(self) -> str:
        return f"attempt {self.number}: {visible(self.error)}"
