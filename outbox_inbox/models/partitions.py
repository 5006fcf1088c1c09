"""The partitions of the queues, whose row locks keep two workers from the same messages."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .base import ContextTable, Queue, database_default


class Partition(ContextTable):
    """A share of a context's queue: its lock, the pause switch, and the back-off of an outage."""

    id = models.BigAutoField(primary_key=True)
    queue = models.CharField(max_length=6, choices=Queue)
    number = models.PositiveSmallIntegerField()
    paused = models.BooleanField(default=False)
    run = models.UUIDField(null=True)
    """The token of its run. One that shows no sign of life is left from a crash (rule O9)."""
    last_run_at = models.DateTimeField(null=True)
    retry_at = models.DateTimeField(null=True)
    """The transport was unavailable; the next try is not made before this time."""
    outages = models.PositiveIntegerField(default=0)
    """Tries in a row in which the transport was unavailable."""
    error = models.TextField(default="")
    positions = models.TextField(default="", db_default=database_default("''"))
    """How far the transport was read or published to, in the words of the transport."""

    class Meta(ContextTable.Meta):
        permissions = [("pause_partition", "Can pause and resume partitions")]
        verbose_name = _("partition")
        constraints = [
            models.UniqueConstraint(
                "context", "queue", "number", name="outbox_inbox_partition_number"
            )
        ]

    def __str__(self) -> str:
        return f"{self.context} {self.queue} {self.number}"
