"""Processes in the admin: what each instance remembers, what it waits for, and where it is stuck."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from outbox_inbox.contexts import contexts
from outbox_inbox.models import Delivery, ProcessState

from . import rendering
from .base import QueueAdmin
from .databases import query
from .listing import BoundedChangeList, ContextFilter, KnownValues
from .process_links import failed_deliveries, kept_early, processes, stuck, time_outs

LATE = timedelta(minutes=1)
"""After its time a time-out is on its way for a moment; after a longer one nobody moves it."""

_EARLY = "pretty_early"


class StandingFilter(admin.SimpleListFilter):
    """Those that are stuck, that run, that have finished, or that wait for their start."""

    title = _("standing")
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return [
            ("stuck", _("stuck")),
            ("running", _("running")),
            ("finished", _("finished")),
            ("early", _("not started")),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Return the rows of the choice."""
        match self.value():
            case "stuck":
                return stuck(queryset)
            case "running":
                return queryset.filter(finished_at=None, started_at__isnull=False)
            case "finished":
                return queryset.filter(finished_at__isnull=False)
            case "early":
                return queryset.filter(started_at=None)
        return queryset


class ProcessFilter(KnownValues, field="process"):
    """By the name of the process."""

    title = _("process")

    @staticmethod
    def values() -> Iterable[str]:
        """Return the names of all processes."""
        return (each.name for each in processes())


class ProcessChangeList(BoundedChangeList):
    """A list of instances with what keeps them: one more query a page."""

    def get_results(self, request: HttpRequest) -> None:
        """Find the page's instances, and the deliveries of theirs that have failed."""
        super().get_results(request)
        self.result_list: Any = list(self.result_list)
        failed = failed_deliveries(self.result_list)
        for row in self.result_list:
            row.failed = failed.get(row.pk)


@admin.register(ProcessState)
class ProcessStateAdmin(QueueAdmin):
    """Instances of processes."""

    unlisted = ("state", "early")
    list_display = ("process", "key", "context", "standing", "waits", "started", "finished")
    list_filter = (StandingFilter, ContextFilter, ProcessFilter)
    search_fields = ("key",)
    search_help_text = _("The key of an instance, in full; #… for a row.")
    fieldsets = (
        (
            None,
            {"fields": ("standing", "waits_for", ("context", "process", "key"), "deliveries")},
        ),
        (_("Times"), {"fields": (("started", "changed", "finished"),)}),
        (_("Came before the start"), {"fields": (_EARLY,), "classes": ("oi-wide",)}),
        (_("State"), {"fields": ("pretty_state",), "classes": ("oi-wide",)}),
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BoundedChangeList]:
        """Return the list that also looks for what has failed."""
        return ProcessChangeList

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the sections, without an empty one."""
        sections = super().get_fieldsets(request, obj)
        if obj is None or obj.early != "[]":
            return sections
        return [each for each in sections if _EARLY not in each[1]["fields"]]

    def lookups(self, term: str) -> Iterable[Q]:
        """Look for a key; with the names of contexts and processes the index serves it."""
        yield Q(
            context__in=[context.label for context in contexts()],
            process__in=[each.name for each in processes()],
            key=term.removeprefix("key:"),
        )

    @admin.display(description=_("standing"))
    def standing(self, row: Any) -> SafeString:
        """Show how far it is, and which delivery keeps it from going on."""
        if row.finished_at is not None:
            standing = rendering.state("done", _("finished"))
        elif row.started_at is not None:
            standing = rendering.state("running", _("running"))
        else:
            standing = rendering.state("waiting", _("not started"))
        failed = row.failed if hasattr(row, "failed") else failed_deliveries([row]).get(row.pk)
        return standing if failed is None else format_html("{} {}", standing, self._failed(failed))

    def _failed(self, delivery: Delivery) -> SafeString:
        dead = delivery.state == "dead"
        state = delivery.state if dead else "resting"
        return format_html(
            '{} <a class="oi-due" href="{}">{}</a>',
            rendering.state(state, delivery.get_state_display() if dead else _("backing off")),
            self.address(Delivery, "change", delivery.pk, **query(delivery)),
            rendering.name(delivery.message.type),
        )

    @admin.display(description=_("waits for"))
    def waits(self, row: ProcessState) -> SafeString:
        """Show the time-outs that are set."""
        return self._time_outs(row, links=False)

    @admin.display(description=_("waits for"))
    def waits_for(self, row: ProcessState) -> SafeString:
        """Show the time-outs that are set, with links to their messages."""
        return self._time_outs(row, links=True)

    def _time_outs(self, row: ProcessState, *, links: bool) -> SafeString:
        shown = (
            (
                each.name,
                rendering.moment(each.at) if each.at else "",
                rendering.state("waiting", _("late")) if _late(each.at) else "",
                self.identity(each.message, row) if links and each.message else "",
            )
            for each in time_outs(row.time_outs)
        )
        line = '<div class="oi-line"><code>{}</code> {} {} {}</div>'
        return format_html_join("", line, shown) or rendering.NOTHING

    @admin.display(description=_("deliveries"))
    def deliveries(self, row: ProcessState) -> SafeString:
        """Link to the deliveries by which it has taken its steps."""
        address = self.address(
            Delivery,
            "changelist",
            context__exact=row.context,
            consumer__exact=row.process,
            q=f"key:{row.key}",
            **query(row),
        )
        return format_html('<a href="{}">{}</a>', address, _("all steps of this instance"))

    @admin.display(description=_("started"))
    def started(self, row: ProcessState) -> SafeString:
        """Show when its first event came."""
        return rendering.moment(row.started_at)

    @admin.display(description=_("last step"))
    def changed(self, row: ProcessState) -> SafeString:
        """Show when it took its last step."""
        return rendering.moment(row.changed_at)

    @admin.display(description=_("finished"))
    def finished(self, row: ProcessState) -> SafeString:
        """Show when it came to its end."""
        return rendering.moment(row.finished_at)

    @admin.display(description=_("state"))
    def pretty_state(self, row: ProcessState) -> SafeString:
        """Show what it remembers, and which version of the class wrote it."""
        version = _("Written by version %s of the process.") % row.schema_version
        return format_html('{}<p class="help">{}</p>', rendering.document(row.state), version)

    @admin.display(description=_("messages"))
    def pretty_early(self, row: ProcessState) -> SafeString:
        """Show what came before its start and waits for it."""
        links = format_html_join(
            "",
            '<div class="oi-line">{} {}</div>',
            ((kind, self.identity(number, row)) for kind, number in kept_early(row.early)),
        )
        return format_html("{}{}", links, rendering.document(row.early))


def _late(at: Any) -> bool:
    return at is not None and rendering.ahead(at) < -LATE
