"""What the consumers, subscriptions and read models of a context want, as the database knows it."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from outbox_inbox.signals.escaping import visible

from .base import ContextTable


class InterestKind(models.TextChoices):
    """What has an interest in a type of event."""

    CONSUMER = "consumer", _("consumer")
    """It gets a delivery for each message of the type in the context's inbox."""
    CONTRACT = "contract", _("contract")
    """The context subscribes to it: its messages go into the inbox."""
    PROJECTION = "projection", _("projection")
    """The read model takes the events of the type from the stream."""


class Interest(ContextTable):
    """One consumer, subscription or read model, and one type of event that it wants.

    In a deployment old and new code run side by side. The process that moves a message makes
    deliveries for these rows, and not for what its own code happens to know.
    """

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=10, choices=InterestKind)
    name = models.CharField(max_length=200)
    """Of the consumer or the read model; empty for a contract."""
    type = models.CharField(max_length=200)
    schema_version = models.PositiveIntegerField()
    """The newest version of the type that a process can read."""
    hash = models.BigIntegerField()
    """Of the name; with the hash of a key it makes the partition of a delivery."""
    alias = models.CharField(max_length=100, default="")
    """Alias of the database that has the context's inbox; empty: this one."""
    confirmed_at = models.DateTimeField()
    """When a process last said that its code has it."""
    retired_at = models.DateTimeField(null=True)
    """Since then it gets no deliveries: no process has it any more."""
    renamed_to = models.CharField(max_length=200, default="")
    """The consumer that has taken its place; a process of older code does not bring it back."""

    class Meta(ContextTable.Meta):
        verbose_name = _("interest")
        constraints = [
            models.UniqueConstraint(
                "context", "kind", "type", "name", name="outbox_inbox_interest_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.context} {self.kind} {visible(self.name)} <- {visible(self.type)}"
