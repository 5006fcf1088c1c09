"""The state of long-running processes, between the messages that they react to."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from outbox_inbox.signals.escaping import visible

from .base import ContextTable


class ProcessState(ContextTable):
    """One instance of a process manager: what it remembers, and what it waits for."""

    id = models.BigAutoField(primary_key=True)
    process = models.CharField(max_length=200)
    key = models.CharField(max_length=200)
    state = models.TextField(default="{}")
    """JSON of the fields of the process class."""
    schema_version = models.PositiveSmallIntegerField()
    time_outs = models.TextField(default="{}")
    """JSON: name of each pending time-out -> its message id and time."""
    early = models.TextField(default="[]")
    """JSON of the messages that came before the one that starts the instance."""
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    changed_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta(ContextTable.Meta):
        verbose_name = _("process")
        verbose_name_plural = _("processes")
        constraints = [
            models.UniqueConstraint("context", "process", "key", name="outbox_inbox_process_once")
        ]

    def __str__(self) -> str:
        return f"{self.process} {visible(self.key)}"
