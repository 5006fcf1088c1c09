"""What operators did to messages, so that the next operator sees it in the admin and in the database."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from outbox_inbox.signals.escaping import visible

from .base import ContextTable
from .inbox import Delivery
from .outbox import OutboxMessage
from .quarantine import QuarantinedMessage


class OperatorVerb(models.TextChoices):
    """What an operator can do to a message."""

    RETRIED = "retried", _("retried")
    """It was set to be tried again, with all its attempts."""
    DISCARDED = "discarded", _("discarded")
    """It was given up for good."""
    RELEASED = "released", _("released")
    """It was let out of the quarantine, into the inbox."""


def _row(model: type[models.Model]) -> models.ForeignKey[Any, Any]:
    # No foreign key in the database: code of an older version, which removes rows without knowing this
    # table, must not fail in a deployment.
    return models.ForeignKey(
        model,
        on_delete=models.CASCADE,
        null=True,
        db_constraint=False,
        related_name="operator_actions",
    )


class OperatorAction(ContextTable):
    """One row that an operator has changed, and what it was before. It never changes.

    It names one row: a message of the outbox, a delivery, or a quarantined message.
    """

    id = models.BigAutoField(primary_key=True)
    outbox_message = _row(OutboxMessage)
    delivery = _row(Delivery)
    quarantined_message = _row(QuarantinedMessage)
    verb = models.CharField(_("action"), max_length=9, choices=OperatorVerb)
    operator = models.CharField(max_length=200)
    """A user of the admin, or the user and host of a process: ``anna (admin)``, ``root@web1``."""
    done_at = models.DateTimeField()
    attempts = models.PositiveIntegerField()
    """How many attempts had failed; a retry begins to count anew."""
    error = models.TextField()
    """The error that the row had."""
    reason = models.TextField()
    """Why it was discarded, in the operator's words; empty otherwise."""

    class Meta(ContextTable.Meta):
        verbose_name = _("operator action")

    def __str__(self) -> str:
        return f"{self.verb} by {visible(self.operator)}"


ROW_FIELDS: dict[type[models.Model], str] = {
    OutboxMessage: "outbox_message",
    Delivery: "delivery",
    QuarantinedMessage: "quarantined_message",
}
"""Model of a row -> the field of an action that names the row."""
