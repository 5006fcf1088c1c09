"""Processes in the admin: what each instance remembers, and what it waits for."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from outbox_inbox.contexts import contexts
from outbox_inbox.models import ProcessState

from . import rendering
from .base import QueueAdmin
from .listing import ContextFilter


class StandingFilter(admin.SimpleListFilter):
    """Those that run, that have finished, or that wait for their start."""

    title = _("standing")
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return [("running", _("running")), ("finished", _("finished")), ("early", _("not started"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Return the rows of the choice."""
        match self.value():
            case "running":
                return queryset.filter(finished_at=None, started_at__isnull=False)
            case "finished":
                return queryset.filter(finished_at__isnull=False)
            case "early":
                return queryset.filter(started_at=None)
        return queryset


@admin.register(ProcessState)
class ProcessStateAdmin(QueueAdmin):
    """Instances of processes."""

    unlisted = ("state", "early")
    list_display = ("process", "key", "context", "standing", "waits_for", "started", "finished")
    list_filter = (ContextFilter, StandingFilter)
    search_fields = ("key",)
    search_help_text = _("The key of an instance, in full; #… for a row.")
    fieldsets = (
        (None, {"fields": (("process", "key"), "context", "standing", "waits_for")}),
        (_("Times"), {"fields": ("started", "changed", "finished")}),
        (_("State"), {"fields": ("schema_version", "pretty_state"), "classes": ("oi-wide",)}),
        (_("Came before the start"), {"fields": ("pretty_early",), "classes": ("oi-wide",)}),
    )

    def lookups(self, term: str) -> Iterable[Q]:
        """Look for a key; with the names of contexts and processes the index serves it."""
        owners = contexts()
        names = [
            each.name for owner in owners for each in owner.all_consumers if each.kind == "process"
        ]
        key = term.removeprefix("key:")
        yield Q(context__in=[owner.label for owner in owners], process__in=names, key=key)

    @admin.display(description=_("standing"))
    def standing(self, row: ProcessState) -> str:
        """Show how far it is."""
        if row.finished_at is not None:
            return str(_("finished"))
        return str(_("running") if row.started_at is not None else _("not started"))

    @admin.display(description=_("waits for"))
    def waits_for(self, row: ProcessState) -> SafeString:
        """Show the time-outs that are set, with links to their messages on the inspect page."""
        found = _time_outs(row.time_outs)
        if not found:
            return rendering.NOTHING
        return format_html_join(
            " ",
            "<span>{} {} {}</span>",
            (
                (name, rendering.moment(at), "" if number is None else self.identity(number, row))
                for name, at, number in found
            ),
        )

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
        """Show what it remembers."""
        return rendering.document(row.state)

    @admin.display(description=_("messages"))
    def pretty_early(self, row: ProcessState) -> SafeString:
        """Show what came before its start and waits for it."""
        if row.early == "[]":
            return rendering.NOTHING
        return format_html("{}", rendering.document(row.early))


def _time_outs(text: str) -> list[tuple[str, datetime | None, UUID | None]]:
    """Return name, time and message id of each; what is damaged is left out, not shown wrong."""
    try:
        return [
            (name, datetime.fromisoformat(each["at"]), UUID(each["id"]))
            for name, each in json.loads(text).items()
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        return [(text[:200], None, None)]
