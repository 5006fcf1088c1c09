"""The received messages that did not get into an inbox."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from .base import ContextTable


class QuarantineState(models.TextChoices):
    """Where a message stands that was kept aside."""

    QUARANTINED = "quarantined", _("quarantined")
    """Kept aside; a person releases or discards it."""
    RELEASED = "released", _("released")
    """Judged again, and let into the inbox."""
    DISCARDED = "discarded", _("discarded")
    """Set aside by a person for good."""


class QuarantineReason(models.TextChoices):
    """Why a message from outside was kept aside."""

    TOO_LARGE = "too_large", _("too large")
    """More bytes than ``MAX_PAYLOAD``; only so many of them are kept."""
    TOO_DEEP = "too_deep", _("too deep")
    """Nested too deeply, or made of too many values."""
    NOT_JSON = "not_json", _("not JSON")
    """The data is no acceptable JSON object."""
    MALFORMED = "malformed", _("malformed")
    """An attribute is missing or wrong."""
    UNKNOWN_SOURCE = "unknown_source", _("unknown source")
    """From a context that this one does not listen to."""
    UNKNOWN_TYPE = "unknown_type", _("unknown type")
    """No contract of its source, or (when it was to be released) none that is subscribed to."""
    UNKNOWN_VERSION = "unknown_version", _("unknown version")
    """Newer than this process knows, or older than it can read."""
    WRONG_SCHEMA = "wrong_schema", _("wrong schema")
    """The data does not fit the contract."""
    WRONG_SIGNATURE = "wrong_signature", _("wrong signature")
    """Not signed as its source signs."""
    CONFLICT = "conflict", _("conflict")
    """Its id has been received before, with other content."""


class QuarantinedMessage(ContextTable):
    """One message that came from outside and did not get into the inbox, as it came.

    Everything that its sender says of it is text that nobody has checked.
    """

    id = models.BigAutoField(primary_key=True)
    context = models.CharField(max_length=50)
    reason = models.CharField(max_length=15, choices=QuarantineReason)
    error = models.TextField()
    source = models.CharField(max_length=200)
    message_id = models.CharField(max_length=200)
    type = models.CharField(max_length=200)
    attributes = models.TextField()
    """JSON of all attributes."""
    data = models.BinaryField()
    """The bytes of the payload, the first ``MAX_PAYLOAD`` of them."""
    size = models.PositiveBigIntegerField()
    """Bytes that it had."""
    fingerprint = models.CharField(max_length=64)
    """SHA-256 of attributes and data: what comes again is kept once."""
    received_at = models.DateTimeField()
    state = models.CharField(
        max_length=11, choices=QuarantineState, default=QuarantineState.QUARANTINED
    )
    finished_at = models.DateTimeField(null=True)
    note = models.TextField(default="")
    """Why it was discarded, in the operator's words."""

    class Meta:
        default_permissions = ("view",)
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
                "context",
                condition=Q(state="quarantined"),
                name="outbox_inbox_quarantined",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type[:60] or '(no type)'} {self.message_id[:60] or '(no id)'}: {self.reason}"

    @property
    def complete(self) -> bool:
        """Whether all of its bytes were kept."""
        return self.size == len(self.data)
