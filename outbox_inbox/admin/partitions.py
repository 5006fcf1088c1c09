"""The partitions of the queues: which are paused, which back off, and why."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from outbox_inbox import operations
from outbox_inbox.contexts import Context
from outbox_inbox.models import Partition, Queue

from . import rendering
from .columns import column, section
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
        section(None, "state_badge", "retry_time", "outages", "full_error"),
        section(_("Partition"), ("context", "queue", "number"), "run_time", "run"),
    )
    run_time = column(_("last run"), rendering.moment, "last_run_at")
    retry_time = column(_("next try"), rendering.moment, "retry_at")

    def switch(self, context: Context, rows: Sequence[Partition], *, paused: bool) -> None:
        operation = operations.pause if paused else operations.resume
        operation(context, Queue(rows[0].queue), [row.number for row in rows])

    @admin.display(description=_("partition"))
    def name(self, row: Partition) -> str:
        return str(row)

    @admin.display(description=_("state"))
    def state_badge(self, row: Any) -> SafeString:
        """Show whether an operator or an outage keeps workers away; idle: neither."""
        if row.paused:
            return rendering.badge("paused", _("paused"))
        if row.outages:  # until the next success, also when its pause is over
            badge = rendering.badge("backing-off", _("backing off"))
            outages = ngettext("%s outage in a row", "%s outages in a row", row.outages)
            return rendering.detailed(badge, outages % row.outages)
        if row.run is not None:
            return rendering.badge("running", _("running"))
        return rendering.badge("idle", _("idle"))
