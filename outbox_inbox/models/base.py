"""What all tables have in common."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage
from django.db import models
from django.utils.translation import gettext_lazy as _

_MADE_OTHERWISE = {"models.W037", "models.W043", "models.W044"}  # indexes of part of a table, …


class Kind(models.TextChoices):
    """What sort of event a message carries."""

    DOMAIN = "domain", _("domain event")
    """Private: never leaves its context."""
    INTEGRATION = "integration", _("integration event")
    """A public, versioned contract: goes out through the transport."""


class Queue(models.TextChoices):
    """What a partition is a part of."""

    OUTBOX = "outbox", _("outbox")
    """Worked on by the relay."""
    INBOX = "inbox", _("inbox")
    """Worked on by the dispatcher."""
    INTAKE = "intake", _("intake")
    """Worked on by the receiver: one at a time per context."""


class ContextTable(models.Model):
    """What all tables have in common."""

    class Meta:
        abstract = True

    @classmethod
    def check(cls, **kwargs: Any) -> list[CheckMessage]:
        """Leave out Django's warnings of what MySQL and MariaDB cannot have.

        The migration 0003 gives them constraints and indexes of their own instead.
        """
        return [found for found in super().check(**kwargs) if found.id not in _MADE_OTHERWISE]


class Message(ContextTable):
    """The columns that an event has wherever it is stored."""

    context = models.CharField(max_length=50)
    message_id = models.UUIDField()
    type = models.CharField(max_length=200)
    schema_version = models.PositiveSmallIntegerField()
    key = models.CharField(max_length=200, null=True)  # noqa: DJ001 - null is "no order", "" a key
    payload = models.TextField()
    headers = models.TextField()
    correlation_id = models.UUIDField()
    causation_id = models.UUIDField(null=True)
    recorded_at = models.DateTimeField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.type} {self.message_id}"


def table(model: type[models.Model]) -> str:
    """Return the name of a model's table, for the raw statements."""
    options: Any = model._meta
    return str(options.db_table)
