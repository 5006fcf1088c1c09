"""How the queues of a context are laid out, as all processes must agree on it."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .base import ContextTable


class QueueLayout(ContextTable):
    """What is in force for the queues of a context, whatever the settings of a process say.

    In a deployment processes with old and with new settings run side by side. They all write and
    move messages as this row says, until ``manage.py repartition`` changes it.
    """

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(max_length=6)
    """What the relay sends: "outbox" or "stream"."""
    outbox = models.PositiveSmallIntegerField()
    """The number of partitions of the outbox; 1, where the stream is the source."""
    inbox = models.PositiveSmallIntegerField()
    """The number of partitions of the inbox."""

    class Meta(ContextTable.Meta):
        verbose_name = _("queue layout")
        constraints = [models.UniqueConstraint("context", name="outbox_inbox_layout_once")]

    def __str__(self) -> str:
        return f"{self.context} {self.source} {self.outbox} {self.inbox}"
