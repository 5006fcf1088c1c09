"""Subscriptions in the admin: how far each reader of a stream is, who rests, and the switch."""

import re
from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from outbox_inbox import operations
from outbox_inbox.contexts import Context, ReadModel, get_context
from outbox_inbox.exceptions import NotAContext, OutboxInboxError
from outbox_inbox.models import Checkpoint, StoredEvent
from outbox_inbox.operations.rebuilding import REBUILD_SUFFIX
from outbox_inbox.outbox.stream_relay import unsent
from outbox_inbox.queues.relay_source import RELAY
from outbox_inbox.streams.subscriptions import behind

from . import rendering
from .actions import ActingAdmin
from .databases import chosen, query
from .listing import ContextFilter
from .stream import StreamColumns

Switch = Callable[[Context, Iterable[str]], int]


_PLACE = re.compile(r" position (\d{1,18}), [^ ]+\)$")  # how `projecting` ends the error of one


class StandingFilter(admin.SimpleListFilter):
    """Those that an operator has paused, and those that failed."""

    title = gettext_lazy("state")
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return [("paused", _("paused")), ("resting", _("backing off")), ("working", _("working"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of the choice."""
        match self.value():
            case "paused":
                return queryset.filter(paused=True)
            case "resting":
                return queryset.filter(paused=False, retry_at__isnull=False)
            case "working":
                return queryset.filter(paused=False, retry_at=None)
        return queryset


@admin.register(Checkpoint)
class CheckpointAdmin(StreamColumns, ActingAdmin):
    """Checkpoints of the readers of streams: read models, rebuilds, and the relay."""

    unlisted = ("done", "target")
    actions = ("pause", "resume")
    list_display = ("named", "reader", "standing", "lag", "changed", "trouble")
    list_filter = (StandingFilter, ContextFilter)
    ordering = ("context", "subscription")
    list_per_page = 200
    fieldsets = (
        (None, {"fields": ("standing", "lag", "full_error", "failed_on")}),
        (
            gettext_lazy("Checkpoint"),
            {"fields": (("context", "subscription", "reader"), ("changed", "position"))},
        ),
    )
    snapshots = (gettext_lazy("Snapshots"), {"fields": ("done", "target")})
    """What PostgreSQL has in place of a position."""

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the sections; snapshots where the database has them."""
        sections = super().get_fieldsets(request, obj)
        return [*sections, self.snapshots] if obj is not None and obj.done else sections

    def has_pause_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may pause and resume."""
        return self.may(request, "pause")

    def buttons(self, request: HttpRequest, row: Checkpoint) -> list[tuple[str, str]]:
        """Return what this user may do: pause, or resume what is paused or rests.

        Only read models have a switch: the relay has its partition, a rebuild its command.
        """
        if _read_model(row) is None or row.subscription.endswith(REBUILD_SUFFIX):
            return []
        useless = {"pause"} if row.paused else set() if row.retry_at else {"resume"}
        return [each for each in super().buttons(request, row) if each[0] not in useless]

    @admin.action(permissions=["pause"], description=gettext_lazy("Pause"))
    def pause(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Let nobody bring the read models up to date until they are resumed."""
        none = _("All of them were paused already.")
        switch = operations.pause_read_models
        self._switch(request, queryset, switch, _("Paused."), _("Paused: %s."), none)
        return self.back(request)

    @admin.action(permissions=["pause"], description=gettext_lazy("Resume"))
    def resume(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Let workers go on, at once: also where a failure has a read model rest."""
        none = _("None of them was paused or backing off.")
        switch = operations.resume_read_models
        self._switch(request, queryset, switch, _("Resumed."), _("Resumed: %s."), none)
        return self.back(request)

    def _switch(
        self,
        request: HttpRequest,
        queryset: QuerySet[Any],
        switch: Switch,
        entry: str,
        some: str,
        none: str,
    ) -> None:
        done = 0
        rows = queryset.using(chosen(request, Checkpoint)).order_by("context", "subscription")
        try:
            for label, group in groupby(rows, lambda row: str(row.context)):
                same = rows.filter(pk__in=[row.pk for row in group])
                names = [row.subscription for row in same]
                operation = partial(switch, _owner(label, rows.db), names)
                done += self.carry_out(request, same, operation, _position, entry)
        except OutboxInboxError as error:
            self.message_user(request, str(error), messages.ERROR)
            if not done:
                return
        self.tell(request, done, some, none)

    @admin.display(description=gettext_lazy("subscription"))
    def named(self, row: Checkpoint) -> SafeString:
        """Show context and name."""
        return rendering.name(str(row))

    @admin.display(description=gettext_lazy("reader"))
    def reader(self, row: Checkpoint) -> str:
        """Show who reads: a read model, its rebuild, or the relay."""
        if row.subscription == RELAY:
            return _("relay")
        if row.subscription.endswith(REBUILD_SUFFIX):
            return _("rebuild")
        return _("read model") if _read_model(row) is not None else _("unknown here")

    @admin.display(description=gettext_lazy("state"))
    def standing(self, row: Checkpoint) -> SafeString:
        """Show whether it is paused, rests after failures until some time, or works."""
        if row.paused:
            return rendering.state("paused", _("paused"))
        if row.subscription.endswith(REBUILD_SUFFIX):
            return rendering.state("waiting", _("not finished"))
        if row.retry_at is None:
            return rendering.state("idle", _("working"))
        failures = ngettext("%s failure", "%s failures", row.failures) % row.failures
        return format_html(
            '{} <span class="oi-due">{}</span> <span class="oi-due">{}</span>',
            rendering.state("resting", _("backing off")),
            rendering.moment(row.retry_at),
            failures,
        )

    @admin.display(description=gettext_lazy("events behind"))
    def lag(self, row: Checkpoint) -> str:
        """Show how many events it has still to handle; of a context that is gone nobody knows."""
        try:
            context = get_context(row.context)
        except NotAContext:
            return "?"
        if row.subscription == RELAY:
            return f"{unsent(context).events:,}"
        read_model = _read_model(row)
        types = None if read_model is None else read_model.by_type
        return f"{behind(context, row.subscription, types).events:,}"

    @admin.display(description=gettext_lazy("failed on"))
    def failed_on(self, row: Checkpoint) -> SafeString:
        """Link to the event on which it failed last."""
        found = _PLACE.search(row.error)
        events = StoredEvent.objects.using(row._state.db).filter(context=row.context)
        event = found and events.filter(position=int(found[1])).first()
        if not event:
            return rendering.NOTHING
        address = self.address(StoredEvent, "change", event.pk, **query(row))
        return format_html(
            '<a href="{}">{}</a> <span class="oi-links"><a href="{}">{}</a></span>',
            address,
            event,
            self.stream_address(event),
            _("its stream"),
        )

    @admin.display(description=gettext_lazy("last change"))
    def changed(self, row: Checkpoint) -> SafeString:
        """Show when it last moved."""
        return rendering.moment(row.changed_at)

    @admin.display(description=gettext_lazy("reason"))
    def trouble(self, row: Checkpoint) -> str:
        """Show why it rests, in short."""
        return rendering.excerpt(row.error)

    @admin.display(description=gettext_lazy("reason"))
    def full_error(self, row: Checkpoint) -> SafeString:
        """Show why it rests."""
        return rendering.preformatted(row.error) if row.error else rendering.NOTHING


def _read_model(row: Checkpoint) -> ReadModel | None:
    """Return the read model that a checkpoint, or that of a rebuild, belongs to."""
    try:
        known = get_context(row.context).read_models
    except NotAContext:
        return None
    return known.get(row.subscription.removesuffix(REBUILD_SUFFIX))


def _owner(label: str, using: str) -> Context:
    context = get_context(label)
    if context.database != using:
        raise OutboxInboxError(
            f"these checkpoints are in the database {using!r}, and the context {label!r} lives on "
            f"{context.database!r}"
        )
    return context


def _position(row: Checkpoint) -> tuple[Any, ...]:
    return row.paused, row.retry_at
