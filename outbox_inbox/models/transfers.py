"""The hand-overs of contexts to other databases."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class TransferState(models.TextChoices):
    """How far the hand-over of a context is, on one of its two databases."""

    COPYING = "copying", _("copying")
    """On the new database: rows come in, and nobody else may write."""
    MOVED = "moved", _("moved")
    """On the new database: everything is there, and nobody else may write yet."""
    OPEN = "open", _("open")
    """On the new database: the context lives here."""
    ABORTING = "aborting", _("aborting")
    """On the new database: the hand-over is being taken back."""
    CLOSING = "closing", _("closing")
    """On the old database: no mover works any more."""
    CLOSED = "closed", _("closed")
    """On the old database: nobody can write any more."""
    LEFT = "left", _("left")
    """On the old database: the context lives elsewhere."""


class Transfer(models.Model):
    """The hand-over of a context to another database: a row on each of the two."""

    id = models.BigAutoField(primary_key=True)
    context = models.CharField(max_length=50, unique=True)
    number = models.UUIDField()
    """The same on both databases."""
    state = models.CharField(max_length=8, choices=TransferState)
    other = models.CharField(max_length=200)
    """Alias of the other database, as the process that began it calls it."""
    writing = models.BooleanField(default=False)
    """True within a transaction that copies, and so only seen there: it may pass the guard."""
    details = models.JSONField(default=dict)
    """What has to be remembered: shifts of ids, partitions that were paused, what was verified."""
    changed_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("transfer")

    def __str__(self) -> str:
        return f"{self.context}: {self.state}"
