"""Transfers of contexts to other databases: where a context lives while its settings change."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class TransferState(models.TextChoices):
    """How far the transfer of a context is, on one of its two databases."""

    COPYING = "copying", _("copying")
    """On the new database: rows arrive, and only the transfer may write."""
    MOVED = "moved", _("moved")
    """On the new database: all rows are there, and only the transfer may write."""
    OPEN = "open", _("open")
    """On the new database: the context lives here."""
    ABORTING = "aborting", _("aborting")
    """On the new database: the transfer is being aborted."""
    CLOSING = "closing", _("closing")
    """On the old database: the movers are paused."""
    CLOSED = "closed", _("closed")
    """On the old database: all writes are refused."""
    LEFT = "left", _("left")
    """On the old database: the context lives elsewhere."""


class Transfer(models.Model):
    """The transfer of a context to another database: a row on each of the two."""

    id = models.BigAutoField(primary_key=True)
    context = models.CharField(max_length=50, unique=True)
    number = models.UUIDField()
    """The same on both databases."""
    state = models.CharField(max_length=8, choices=TransferState)
    other = models.CharField(max_length=200)
    """Alias of the other database, as the process that began the transfer calls it."""
    writing = models.BooleanField(default=False)
    """True within a transaction of the transfer, and only visible there: the guards let it write."""
    details = models.JSONField(default=dict)
    """What later steps need: shifts of ids, partitions that were paused, what was verified."""
    changed_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("transfer")

    def __str__(self) -> str:
        return f"{self.context}: {self.state}"
