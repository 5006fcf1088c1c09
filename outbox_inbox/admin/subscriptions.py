"""Checkpoints: how far each reader of a stream is, which are paused or back off, and why."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from outbox_inbox import operations
from outbox_inbox.contexts import Context, ReadModel, get_context
from outbox_inbox.exceptions import NotAContext, OutboxInboxError
from outbox_inbox.models import Checkpoint, StoredEvent
from outbox_inbox.operations.rebuilding import REBUILD_SUFFIX
from outbox_inbox.outbox.stream_relay import unsent
from outbox_inbox.queues.statements.layouts import RELAY
from outbox_inbox.streams.subscriptions import Lag, behind

from . import rendering
from .columns import column, section
from .listing import MOST_LISTED, ConditionFilter, ContextFilter, bounded_count
from .stream import StreamColumns
from .switches import SwitchAdmin

_PLACE = re.compile(r" position (\d{1,18}), [^ ]+\)$")  # how `projecting` ends the error of one


class CheckpointStateFilter(ConditionFilter):
    """Those that an operator has paused, those that back off after a failure, and the others."""

    title = _("state")
    parameter_name = "standing"
    conditions: ClassVar = {
        "paused": (_("paused"), Q(paused=True)),
        "resting": (_("backing off"), Q(paused=False, retry_at__isnull=False)),
        "working": (_("working"), Q(paused=False, retry_at=None)),
    }


@admin.register(Checkpoint)
class CheckpointAdmin(StreamColumns, SwitchAdmin):
    """Checkpoints of the readers of streams: read models, rebuilds, and the relay."""

    unlisted = ("done", "target")
    group = ("context",)
    list_display = ("name", "reader", "state_badge", "lag", "change_time", "error_excerpt")
    list_filter = (CheckpointStateFilter, ContextFilter)
    ordering = ("context", "subscription")
    fieldsets = (
        section(None, "state_badge", "lag", "full_error", "failed_event"),
        section(
            _("Checkpoint"), ("context", "subscription", "reader"), ("change_time", "position")
        ),
    )
    snapshots = section(_("Snapshots"), "done", "target")
    """What PostgreSQL stores in place of a position."""
    change_time = column(_("last change"), rendering.moment, "changed_at")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        sections = super().get_fieldsets(request, obj)
        return [*sections, self.snapshots] if obj is not None and obj.done else sections

    def buttons(self, request: HttpRequest, row: Checkpoint) -> list[tuple[str, str]]:
        """Return the actions on a read model.

        An operator pauses the relay by its partition, and stops the command of a rebuild.
        """
        if _read_model(row) is None or row.subscription.endswith(REBUILD_SUFFIX):
            return []
        return super().buttons(request, row)

    def switch(self, context: Context, rows: Sequence[Checkpoint], *, paused: bool) -> None:
        operation = operations.pause_read_models if paused else operations.resume_read_models
        operation(context, [row.subscription for row in rows])

    @admin.display(description=_("subscription"))
    def name(self, row: Checkpoint) -> SafeString:
        return rendering.dotted_name(str(row))

    @admin.display(description=_("reader"))
    def reader(self, row: Checkpoint) -> Any:
        """Show what reads: a read model, its rebuild, or the relay."""
        if row.subscription == RELAY:
            return _("relay")
        if row.subscription.endswith(REBUILD_SUFFIX):
            return _("rebuild")
        return _("read model") if _read_model(row) is not None else _("not declared")

    @admin.display(description=_("state"))
    def state_badge(self, row: Any) -> SafeString:
        if row.paused:
            return rendering.badge("paused", _("paused"))
        if row.subscription.endswith(REBUILD_SUFFIX):
            return rendering.badge("waiting", _("unfinished"))
        if row.retry_at is None:
            return rendering.badge("idle", _("working"))
        failures = ngettext("%s failure", "%s failures", row.failures) % row.failures
        badge = rendering.badge("backing-off", _("backing off"))
        return rendering.detailed(badge, rendering.moment(row.retry_at), failures)

    @admin.display(description=_("events behind"))
    def lag(self, row: Checkpoint) -> str:
        """Show how many events it has still to handle; "?" if that cannot be counted.

        Its context is not declared here, or its database serves no streams, or the checkpoint is that of
        another database.
        """
        try:
            return bounded_count(_lag(row).events)
        except OutboxInboxError:
            return "?"

    @admin.display(description=_("failed event"))
    def failed_event(self, row: Checkpoint) -> SafeString:
        """Link to the event at which it failed last, and to its stream."""
        found = _PLACE.search(row.error)
        events = StoredEvent.objects.using(row._state.db).filter(context=row.context)
        event = found and events.filter(position=int(found[1])).first()
        if not event:
            return rendering.EMPTY
        stream = rendering.link(self.stream_address(event), _("stream"))
        return format_html('{} <span class="oi-links">{}</span>', self.row_link(event), stream)


def _lag(row: Checkpoint) -> Lag:
    context = get_context(row.context)
    if row.subscription == RELAY:
        return unsent(context, most=MOST_LISTED + 1)
    read_model = _read_model(row)
    types = None if read_model is None else read_model.by_type
    return behind(context, row.subscription, types, most=MOST_LISTED + 1)


def _read_model(row: Checkpoint) -> ReadModel | None:
    """Return the read model that a checkpoint, or that of a rebuild, belongs to."""
    try:
        known = get_context(row.context).read_models
    except NotAContext:
        return None
    return known.get(row.subscription.removesuffix(REBUILD_SUFFIX))
