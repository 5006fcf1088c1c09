"""The quarantine: messages from outside that were not let into an inbox.

To drop them would lose data; to let them block the stream would stop its other messages.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from outbox_inbox.signals.escaping import visible

from .base import ContextTable


class QuarantineState(models.TextChoices):
    """The states of a quarantined message."""

    QUARANTINED = "quarantined", _("quarantined")
    """An operator releases or discards it."""
    RELEASED = "released", _("released")
    """It was checked again, and let into the inbox."""
    DISCARDED = "discarded", _("discarded")
    """An operator decided that it never gets into the inbox."""


class QuarantineReason(models.TextChoices):
    """The reasons for which a message from outside is quarantined."""

    TOO_LARGE = "too_large", _("too large")
    """More bytes than ``MAX_PAYLOAD``; only so many of them are stored."""
    TOO_DEEP = "too_deep", _("too deep")
    """Nested too deeply, or made of too many values."""
    NOT_JSON = "not_json", _("not JSON")
    """The data is not an acceptable JSON object."""
    MALFORMED = "malformed", _("malformed")
    """An attribute is missing or wrong."""
    UNKNOWN_SOURCE = "unknown_source", _("unknown source")
    """From a context to which this one does not subscribe."""
    UNKNOWN_TYPE = "unknown_type", _("unknown type")
    """Not a contract of its source, or (on release) not one to which the context subscribes."""
    UNKNOWN_VERSION = "unknown_version", _("unknown version")
    """Newer than this process knows, or older than it can read."""
    WRONG_SCHEMA = "wrong_schema", _("wrong schema")
    """The data does not fit the contract."""
    WRONG_SIGNATURE = "wrong_signature", _("wrong signature")
    """It does not have the signature of its source."""
    CONFLICT = "conflict", _("conflict")
    """Its id has been received before, with other content."""


class QuarantinedMessage(ContextTable):
    """One message from outside as it came: unchecked text. Show it escaped, and never trust it."""

    id = models.BigAutoField(primary_key=True)
    reason = models.CharField(max_length=15, choices=QuarantineReason)
    error = models.TextField()
    source = models.CharField(max_length=200)
    message_id = models.CharField(max_length=200)
    type = models.CharField(max_length=200)
    attributes = models.TextField()
    """JSON of all attributes."""
    data = models.BinaryField()
    """The first ``MAX_PAYLOAD`` bytes of the payload."""
    size = models.PositiveBigIntegerField()
    """The number of bytes that the payload had."""
    fingerprint = models.CharField(max_length=64)
    """SHA-256 of attributes and data: a message that comes again is stored once."""
    received_at = models.DateTimeField()
    state = models.CharField(
        max_length=11, choices=QuarantineState, default=QuarantineState.QUARANTINED
    )
    finished_at = models.DateTimeField(null=True)
    note = models.TextField(default="")
    """Why it was discarded, in the operator's words."""

    class Meta(ContextTable.Meta):
        permissions = [
            ("release_quarantinedmessage", "Can release quarantined messages"),
            ("discard_quarantinedmessage", "Can discard quarantined messages"),
        ]
        verbose_name = _("quarantined message")
        constraints = [
            models.UniqueConstraint("context", "fingerprint", name="outbox_inbox_quarantine_once")
        ]
        indexes = [
            models.Index(
                "context", condition=Q(state="quarantined"), name="outbox_inbox_quarantined"
            )
        ]

    def __str__(self) -> str:
        type_, id_ = visible(self.type[:60]), visible(self.message_id[:60])
        return f"{type_ or '(no type)'} {id_ or '(no id)'}: {self.reason}"

    @property
    def complete(self) -> bool:
        """Whether all bytes of the payload were stored."""
        return self.size == len(self.data)
