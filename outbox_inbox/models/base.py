"""What the tables have in common, and what sorts of events and queues there are."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage
from django.db import models
from django.db.models import Q
from django.db.models.expressions import RawSQL
from django.utils.translation import gettext_lazy as _

from outbox_inbox.signals.escaping import visible

_MADE_OTHERWISE = {"models.W037", "models.W043", "models.W044"}  # partial indexes, …


class Kind(models.TextChoices):
    """The sort of event that a message carries."""

    DOMAIN = "domain", _("domain event")
    """Private: it never leaves its context."""
    INTEGRATION = "integration", _("integration event")
    """A public, versioned contract: it is published through the transport."""


class Queue(models.TextChoices):
    """The queue that a partition is a share of; each has its own mover."""

    OUTBOX = "outbox", _("outbox")
    """Worked off by the relay."""
    INBOX = "inbox", _("inbox")
    """Worked off by the dispatcher."""
    INTAKE = "intake", _("intake")
    """Worked off by the receiver, one at a time for each context: two would mix up the order."""


def database_default(sql: str) -> RawSQL:
    """Return a ``db_default`` that is SQL without a parameter: ``database_default("''")``.

    With a parameter Django defers the constraints of a table that it makes from its model. On MariaDB,
    where it makes none of those that are declared by expressions, it then executes "None".
    """
    return RawSQL(sql, ())  # noqa: S611  the text is ours


class ContextTable(models.Model):
    """The base of the models whose constraints and indexes a migration adapts to MySQL."""

    context = models.CharField(max_length=50)

    class Meta:
        abstract = True
        default_permissions = ("view",)

    @classmethod
    def check(cls, **kwargs: Any) -> list[CheckMessage]:
        """Leave out Django's warnings of what a migration creates in another form on MySQL."""
        return [found for found in super().check(**kwargs) if found.id not in _MADE_OTHERWISE]


class Message(ContextTable):
    """The columns that an event has in every table that stores events."""

    message_id = models.UUIDField()
    type = models.CharField(max_length=200)
    schema_version = models.PositiveSmallIntegerField()
    key = models.CharField(max_length=200, null=True)  # noqa: DJ001 - null is "no order", "" a key
    payload = models.TextField()
    headers = models.TextField()
    correlation_id = models.UUIDField()
    causation_id = models.UUIDField(null=True)
    hops = models.PositiveSmallIntegerField()
    key_hash = models.BigIntegerField()
    recorded_at = models.DateTimeField()

    class Meta(ContextTable.Meta):
        abstract = True

    def __str__(self) -> str:
        return f"{visible(self.type)} {self.message_id}"


def queue_indexes(prefix: str, idle: str, *head: str) -> list[models.Index]:
    """Return the partial indexes of a queue, one for each statement that looks for rows.

    Arguments:
        prefix: what their names begin with.
        idle: the state in which a row waits for its mover.
        head: the columns that its followers have in common with a blocked head.
    """
    share = ("context", "partition")
    at_once, later = Q(state=idle, due_at__isnull=True), Q(state=idle, due_at__isnull=False)
    return [
        models.Index(*share, "id", condition=at_once, name=f"{prefix}_{idle}"),
        models.Index(*share, "due_at", condition=later, name=f"{prefix}_due"),
        models.Index(*share, *head, condition=Q(holds=True), name=f"{prefix}_holds"),
        models.Index(*share, *head, condition=Q(state="waiting"), name=f"{prefix}_waiting"),
        models.Index("context", condition=Q(state="dead"), name=f"{prefix}_dead"),
    ]


def table(model: type[models.Model]) -> str:
    """Return the name of a model's table, for the raw statements."""
    options: Any = model._meta
    return str(options.db_table)
