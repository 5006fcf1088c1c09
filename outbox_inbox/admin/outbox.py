"""The outbox: what contexts have recorded and the relay sends."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from outbox_inbox.models import OutboxMessage

from .actions import DeadLetterAdmin
from .columns import IDS, PROGRESS, TEXTS, QueuedColumns, section
from .listing import BlockedKeyFilter, ContextFilter, ProgressFilter, TypeFilter


@admin.register(OutboxMessage)
class OutboxMessageAdmin(QueuedColumns, DeadLetterAdmin):
    """Messages of the outbox."""

    list_display = ("event_type", "progress", "key_text", "context", "record_time", "error_excerpt")
    list_filter = (ProgressFilter, ContextFilter, BlockedKeyFilter, "kind", TypeFilter)
    fieldsets = (
        section(None, *PROGRESS),
        section(
            _("Message"),
            ("event_type", "kind"),
            ("context", "key_text"),
            *IDS,
            ("record_time", "hops", "partition"),
        ),
        *TEXTS,
    )
