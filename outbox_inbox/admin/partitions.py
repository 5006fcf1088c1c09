"""The partitions of the queues: which are paused, which back off, and why."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox_inbox import operations
from outbox_inbox.contexts import Context
from outbox_inbox.models import Partition, Queue

from . import rendering
from .columns import column
from .listing import ContextFilter
from .switches import SwitchAdmin


@admin.register(Partition)
class PartitionAdmin(SwitchAdmin):
    """Partitions of the queues."""

    unlisted = ()
    group = ("context", "queue")
    list_display = ("name", "state_badge", "run_time", "retry_time", "outages", "error_excerpt")
    list_filter = (ContextFilter, "queue", "paused")
    ordering = ("context", "queue", "number")
    fieldsets = (
        (None, {"fields": ("state_badge", "retry_time", "outages", "full_error")}),
        (
            gettext_lazy("Partition"),
            {"fields": (("context", "queue", "number"), "run_time", "run")},
        ),
    )
    run_time = column(gettext_lazy("last run"), rendering.moment, "last_run_at")
    retry_time = column(gettext_lazy("next try"), rendering.moment, "retry_at")
    error_excerpt = column(gettext_lazy("reason"), rendering.excerpt, "error")
    full_error = column(gettext_lazy("reason"), rendering.full_error, "error")

    def switch(self, context: Context, rows: Sequence[Partition], *, paused: bool) -> None:
        """Pause or resume partitions of one queue."""
        operation = operations.pause if paused else operations.resume
        operation(context, Queue(rows[0].queue), [row.number for row in rows])

    @admin.display(description=gettext_lazy("partition"))
    def name(self, row: Partition) -> str:
        """Show context, queue and number."""
        return str(row)

    @admin.display(description=gettext_lazy("state"))
    def state_badge(self, row: Any) -> SafeString:
        """Show whether it is paused, backs off, is worked on, or is idle."""
        if row.paused:
            return rendering.badge("paused", _("paused"))
        if row.retry_at is not None and row.retry_at > timezone.now():
            return rendering.badge("backing-off", _("backing off"))
        if row.run is not None:
            return rendering.badge("running", _("running"))
        return rendering.badge("idle", _("idle"))
