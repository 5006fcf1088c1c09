"""The transfers of contexts to other databases: how far each is, after a crash as well."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class TransferState(models.TextChoices):
    """How far the transfer of a context is, on one of its two databases."""

    COPYING = "copying", _("copying")
    """On the new database: rows are copied in, and all other writes are refused."""
    MOVED = "moved", _("moved")
    """On the new database: everything is there, and all other writes are still refused."""
    OPEN = "open", _("open")
    """On the new database: the context lives here."""
    ABORTING = "aborting", _("aborting")
    """On the new database: the transfer is being aborted."""
    CLOSING = "closing", _("closing")
    """On the old database: no mover works on the context any more."""
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
    """Alias of the other database in the process that began the transfer."""
    writing = models.BooleanField(default=False)
    """True within a transaction that copies, and so only seen there: the guard lets it write."""
    details = models.JSONField(default=dict)
    """What a later step needs: shifts of ids, partitions that were paused, what was verified."""
    changed_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("transfer")

    def __str__(self) -> str:
        return f"{self.context}: {self.state}"
