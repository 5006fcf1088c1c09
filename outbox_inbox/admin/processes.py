"""Process instances: what each one stores, which time-outs are pending, and where it is stuck."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from outbox_inbox.contexts import contexts
from outbox_inbox.models import Delivery, ProcessState

from . import rendering
from .base import QueueAdmin, is_permitted
from .columns import column, section
from .databases import chosen_database
from .listing import NUL, BoundedChangeList, ConditionFilter, ContextFilter, declared_filter
from .process_links import (
    STUCK,
    early_messages,
    failed_deliveries,
    failed_without_instance,
    pending_time_outs,
    processes,
)

LATE = timedelta(minutes=1)
"""A time-out takes a moment from its due time to its process; after this, no worker moves it."""

_EARLY = "pretty_early"
_MOST_FAILED = 20
"""Deliveries without an instance that the list shows."""


class InstanceStateFilter(ConditionFilter):
    """Those that are stuck, run, have finished, or have not started."""

    title = _("state")
    parameter_name = "standing"
    conditions: ClassVar = {
        "stuck": (_("stuck"), STUCK),
        "running": (_("running"), Q(finished_at=None, started_at__isnull=False)),
        "finished": (_("finished"), Q(finished_at__isnull=False)),
        "early": (_("not started"), Q(started_at=None)),
    }


ProcessFilter = declared_filter(
    "process", _("process"), lambda: (each.name for each in processes())
)


class ProcessChangeList(BoundedChangeList):
    """List instances with what blocks them: one more query a page."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list: Any = list(self.result_list)
        failed = failed_deliveries(self.result_list)
        for row in self.result_list:
            row.failed = failed.get(row.pk)


@admin.register(ProcessState)
class ProcessStateAdmin(QueueAdmin):
    """Instances of processes."""

    unlisted = ("state", "early")
    change_list = ProcessChangeList
    change_list_template = "admin/outbox_inbox/processes.html"
    list_display = (
        "process", "key_text", "context", "state_badge", "time_out_names", "start_time", "finish_time",
    )  # fmt: skip
    list_filter = (InstanceStateFilter, ContextFilter, ProcessFilter)
    search_fields = ("key",)
    search_help_text = _("Search for the key of an instance, in full. Type #… for a row number.")
    fieldsets = (
        section(
            None, "state_badge", "time_out_links", ("context", "process", "key_text"), "deliveries"
        ),
        section(_("Times"), ("start_time", "step_time", "finish_time")),
        section(_("Received before the start"), _EARLY, wide=True),
        section(_("Stored state"), "pretty_state", wide=True),
    )
    key_text = column(_("key"), rendering.line, "key")
    start_time = column(_("started"), rendering.moment, "started_at")
    step_time = column(_("last step"), rendering.moment, "changed_at")
    finish_time = column(_("finished"), rendering.moment, "finished_at")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """List instances, and above them what has failed before there was an instance."""
        found = self._without_instance(request)
        more = {"failed": found[:_MOST_FAILED], "more_failed": len(found) > _MOST_FAILED}
        return super().changelist_view(request, {**(extra_context or {}), **more})

    def _without_instance(self, request: HttpRequest) -> list[tuple[object, ...]]:
        asked = request.GET
        shown = asked.get(InstanceStateFilter.parameter_name, "stuck") == "stuck"
        if (
            not shown
            or any(NUL in value for value in asked.dict().values())
            or not is_permitted(request, "view", Delivery)
        ):
            return []
        key = asked.get("q", "").strip().removeprefix("key:")
        wanted = {"context": asked.get("context__exact"), "consumer": asked.get("process__exact")}
        using = chosen_database(request, Delivery)
        return [
            (self._failed(row), row.consumer, rendering.line(row.key), rendering.excerpt(row.error))
            for row in failed_without_instance(using, _MOST_FAILED + 1, key=key, **wanted)
        ]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the sections, without that of early messages if there are none."""
        sections = super().get_fieldsets(request, obj)
        if obj is None or obj.early != "[]":
            return sections
        return [each for each in sections if _EARLY not in each[1]["fields"]]

    def lookups(self, term: str) -> Iterable[Q]:
        """Look for a key; an index serves it, since contexts and processes are named."""
        yield Q(
            context__in=[context.label for context in contexts()],
            process__in=[each.name for each in processes()],
            key=term.removeprefix("key:"),
        )

    @admin.display(description=_("state"))
    def state_badge(self, row: Any) -> SafeString:
        """Show whether it runs, and which failed delivery blocks it."""
        if row.finished_at is not None:
            badge = rendering.badge("done", _("finished"))
        elif row.started_at is not None:
            badge = rendering.badge("running", _("running"))
        else:
            badge = rendering.badge("waiting", _("not started"))
        failed = row.failed if hasattr(row, "failed") else failed_deliveries([row]).get(row.pk)
        return badge if failed is None else format_html("{} {}", badge, self._failed(failed))

    def _failed(self, delivery: Delivery) -> SafeString:
        badge = rendering.state_badge(delivery)
        if delivery.state != "dead":
            badge = rendering.badge("backing-off", _("backing off"))
        name = rendering.dotted_name(delivery.message.type)
        return rendering.detailed(badge, self.row_link(delivery, name))

    @admin.display(description=_("pending time-outs"))
    def time_out_names(self, row: ProcessState) -> SafeString:
        return self._time_outs(row, links=False)

    @admin.display(description=_("pending time-outs"))
    def time_out_links(self, row: ProcessState) -> SafeString:
        return self._time_outs(row, links=True)

    def _time_outs(self, row: ProcessState, *, links: bool) -> SafeString:
        shown = (
            (
                rendering.line(name),
                rendering.moment(at) if at else "",
                rendering.badge("waiting", _("late")) if _is_late(at) else "",
                self.id_links(message, row) if links and message else "",
            )
            for name, at, message in pending_time_outs(row.time_outs)
        )
        line = '<div class="oi-line"><code>{}</code> {} {} {}</div>'
        return format_html_join("", line, shown) or rendering.EMPTY

    @admin.display(description=_("deliveries"))
    def deliveries(self, row: ProcessState) -> SafeString:
        """Link to the deliveries to this instance, one for each step."""
        same = {"context__exact": row.context, "consumer__exact": row.process}
        address = self.list_address(Delivery, row, q=f"key:{row.key}", **same)
        return rendering.link(address, _("all deliveries to this instance"))

    @admin.display(description=_("state"))
    def pretty_state(self, row: ProcessState) -> SafeString:
        version = _("Written by version %s of the process.") % row.schema_version
        return format_html('{}<p class="help">{}</p>', rendering.document(row.state), version)

    @admin.display(description=_("messages"))
    def pretty_early(self, row: ProcessState) -> SafeString:
        """Show the messages that were received before its start, and wait for it."""
        links = format_html_join(
            "",
            '<div class="oi-line">{} {}</div>',
            (
                (rendering.line(kind), self.id_links(number, row))
                for kind, number in early_messages(row.early)
            ),
        )
        return format_html("{}{}", links, rendering.document(row.early))


def _is_late(at: Any) -> bool:
    return at is not None and rendering.time_until(at) < -LATE
