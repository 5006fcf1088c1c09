"""The outbox in the admin: what contexts recorded and have to send on."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from outbox_inbox.models import OutboxMessage

from .actions import SolvingAdmin
from .columns import (
    IDENTITY,
    PROGRESS,
    TEXTS,
    InstanceColumns,
    KeyColumns,
    MessageColumns,
    ProgressColumns,
)
from .listing import ContextFilter, ParkedFilter, ProgressFilter, TypeFilter


@admin.register(OutboxMessage)
class OutboxMessageAdmin(
    ProgressColumns, KeyColumns, InstanceColumns, MessageColumns, SolvingAdmin
):
    """Messages of the outbox."""

    list_display = ("typed", "progress", "key", "context", "recorded", "trouble")
    list_filter = (ProgressFilter, ContextFilter, ParkedFilter, "kind", TypeFilter)
    fieldsets = (
        (None, {"fields": PROGRESS}),
        (
            _("Message"),
            {
                "fields": (
                    ("typed", "kind"),
                    ("context", "key"),
                    *IDENTITY,
                    ("recorded", "hops", "partition"),
                )
            },
        ),
        *TEXTS,
    )
