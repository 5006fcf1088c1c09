"""Subscriptions in the admin: how far each reader of a stream is, who rests, and the switch."""

from collections.abc import Callable, Iterable
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
from outbox_inbox.contexts import Context, context
from outbox_inbox.exceptions import NotAContext, OutboxInboxError
from outbox_inbox.models import Checkpoint
from outbox_inbox.subscriptions import behind

from . import rendering
from .actions import ActingAdmin
from .listing import ContextFilter
from .places import chosen

Switch = Callable[[Context, Iterable[str]], int]


@admin.register(Checkpoint)
class CheckpointAdmin(ActingAdmin):
    """Checkpoints of the readers of streams: read models, rebuilds, and the relay."""

    unlisted = ("done", "target")
    actions = ("pause", "resume")
    list_display = ("named", "standing", "lag", "changed", "retry", "failures", "trouble")
    list_filter = (ContextFilter, "paused")
    ordering = ("context", "subscription")
    list_per_page = 200
    fieldsets = (
        (None, {"fields": ("standing", "lag", "retry", "failures", "full_error")}),
        (
            gettext_lazy("Checkpoint"),
            {"fields": (("context", "subscription"), "changed", "position", "done", "target")},
        ),
    )

    def has_pause_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may pause and resume."""
        return self.may(request, "pause")

    def buttons(self, request: HttpRequest, row: Checkpoint) -> list[tuple[str, str]]:
        """Return what this user may do: pause, or resume what is paused or rests."""
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
    def named(self, row: Checkpoint) -> str:
        """Show context and name."""
        return str(row)

    @admin.display(description=gettext_lazy("state"))
    def standing(self, row: Checkpoint) -> SafeString:
        """Show whether it is paused, rests after a failure, or works."""
        if row.paused:
            return rendering.state("paused", _("paused"))
        if row.retry_at is not None and row.retry_at > timezone.now():
            return rendering.state("resting", _("backing off"))
        return rendering.state("idle", _("working"))

    @admin.display(description=gettext_lazy("events behind"))
    def lag(self, row: Checkpoint) -> str:
        """Show how many events it has still to handle; of a context that is gone nobody knows."""
        try:
            owner = context(row.context)
        except NotAContext:
            return "?"
        read_model = owner.read_models.get(row.subscription)
        types = None if read_model is None else read_model.by_type
        return f"{behind(owner, row.subscription, types).events:,}"

    @admin.display(description=gettext_lazy("last change"))
    def changed(self, row: Checkpoint) -> SafeString:
        """Show when it last moved."""
        return rendering.moment(row.changed_at)

    @admin.display(description=gettext_lazy("next try"))
    def retry(self, row: Checkpoint) -> SafeString:
        """Show until when a failure has it rest."""
        return rendering.moment(row.retry_at)

    @admin.display(description=gettext_lazy("reason"))
    def trouble(self, row: Checkpoint) -> str:
        """Show why it rests, in short."""
        return rendering.excerpt(row.error)

    @admin.display(description=gettext_lazy("reason"))
    def full_error(self, row: Checkpoint) -> SafeString:
        """Show why it rests."""
        return rendering.preformatted(row.error) if row.error else rendering.NOTHING


def _owner(label: str, using: str) -> Context:
    owner = context(label)
    if owner.database != using:
        raise OutboxInboxError(
            f"these checkpoints are in the database {using!r}, and the context {label!r} lives on "
            f"{owner.database!r}"
        )
    return owner


def _position(row: Checkpoint) -> tuple[Any, ...]:
    return row.paused, row.retry_at
