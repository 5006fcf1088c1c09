"""Partitions in the admin: who rests, who is paused, and the switch."""

from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox_inbox import operations
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import Partition, Queue

from . import rendering
from .actions import ActingAdmin
from .databases import chosen
from .listing import ContextFilter

Switch = Callable[..., int]


@admin.register(Partition)
class PartitionAdmin(ActingAdmin):
    """Partitions of the queues."""

    unlisted = ()
    actions = ("pause", "resume")
    list_display = ("named", "standing", "last_run", "retry", "outages", "trouble")
    list_filter = (ContextFilter, "queue", "paused")
    ordering = ("context", "queue", "number")
    list_per_page = 200
    fieldsets = (
        (None, {"fields": ("standing", "retry", "outages", "full_error")}),
        (
            gettext_lazy("Partition"),
            {"fields": (("context", "queue", "number"), "last_run", "run")},
        ),
    )

    def has_pause_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may pause and resume."""
        return self.may(request, "pause")

    def buttons(self, request: HttpRequest, row: Partition) -> list[tuple[str, str]]:
        """Return what this user may do: pause, or resume what is paused or rests."""
        useless = {"pause"} if row.paused else set() if row.retry_at else {"resume"}
        return [each for each in super().buttons(request, row) if each[0] not in useless]

    @admin.action(permissions=["pause"], description=gettext_lazy("Pause"))
    def pause(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Let nobody work on the partitions until they are resumed."""
        none = _("All of them were paused already.")
        self._switch(request, queryset, operations.pause, _("Paused."), _("Paused: %s."), none)
        return self.back(request)

    @admin.action(permissions=["pause"], description=gettext_lazy("Resume"))
    def resume(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Let workers go on, at once: also where an outage has the partition rest."""
        none = _("None of them was paused or backing off.")
        self._switch(request, queryset, operations.resume, _("Resumed."), _("Resumed: %s."), none)
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
        rows = queryset.using(chosen(request, Partition)).order_by("context", "queue", "number")
        try:
            for (label, queue), group in groupby(rows, lambda row: (row.context, row.queue)):
                same = rows.filter(pk__in=[row.pk for row in group])
                done += self._switch_queue(request, label, queue, same, switch, entry)
        except OutboxInboxError as error:
            self.message_user(request, str(error), messages.ERROR)
            if not done:
                return
        self.tell(request, done, some, none)

    def _switch_queue(
        self,
        request: HttpRequest,
        label: str,
        queue: str,
        rows: QuerySet[Any],
        switch: Switch,
        entry: str,
    ) -> int:
        context = get_context(label)
        if context.database != rows.db:
            raise OutboxInboxError(
                f"these partitions are in the database {rows.db!r}, and the context {label!r} "
                f"lives on {context.database!r}"
            )
        operation = partial(switch, context, Queue(queue), [row.number for row in rows])
        return self.carry_out(request, rows, operation, _position, entry)

    @admin.display(description=gettext_lazy("partition"))
    def named(self, row: Partition) -> str:
        """Show context, queue and number."""
        return str(row)

    @admin.display(description=gettext_lazy("state"))
    def standing(self, row: Partition) -> SafeString:
        """Show whether it is paused, rests after an outage, is worked on, or idle."""
        if row.paused:
            return rendering.state("paused", _("paused"))
        if row.retry_at is not None and row.retry_at > timezone.now():
            return rendering.state("resting", _("backing off"))
        if row.run is not None:
            return rendering.state("running", _("in a run"))
        return rendering.state("idle", _("idle"))

    @admin.display(description=gettext_lazy("last run"))
    def last_run(self, row: Partition) -> SafeString:
        """Show when somebody last came or went."""
        return rendering.moment(row.last_run_at)

    @admin.display(description=gettext_lazy("next try"))
    def retry(self, row: Partition) -> SafeString:
        """Show until when an outage has it rest."""
        return rendering.moment(row.retry_at)

    @admin.display(description=gettext_lazy("reason"))
    def trouble(self, row: Partition) -> str:
        """Show why it backs off, in short."""
        return rendering.excerpt(row.error)

    @admin.display(description=gettext_lazy("reason"))
    def full_error(self, row: Partition) -> SafeString:
        """Show why it backs off."""
        return rendering.preformatted(row.error) if row.error else rendering.NOTHING


def _position(row: Partition) -> tuple[Any, ...]:
    return row.paused, row.retry_at
