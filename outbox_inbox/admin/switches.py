"""Pause and resume partitions and read models."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox_inbox.contexts import Context, get_context
from outbox_inbox.exceptions import OutboxInboxError

from .actions import Batch, Change, OperatorAdmin, Rows
from .databases import chosen_database


class SwitchAdmin(OperatorAdmin):
    """Pause rows, and resume those that are paused or back off.

    Attributes:
        group: the columns in which all rows of one call of `switch` agree.
    """

    actions = ("pause", "resume")
    list_per_page = 200
    group: ClassVar[tuple[str, ...]]

    def switch(self, context: Context, rows: Sequence[Any], *, paused: bool) -> None:
        """Pause or resume rows of a context."""
        raise NotImplementedError

    def has_pause_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may pause and resume."""
        return self.has_permission_to(request, "pause")

    def buttons(self, request: HttpRequest, row: Any) -> list[tuple[str, str]]:
        """Return Pause, or Resume for a row that is paused, or both for one that backs off."""
        useless = {"pause"} if row.paused else set() if row.retry_at else {"resume"}
        return [each for each in super().buttons(request, row) if each[0] not in useless]

    @admin.action(permissions=["pause"], description=gettext_lazy("Pause"))
    def pause(self, request: HttpRequest, queryset: Rows) -> HttpResponse | None:
        """Keep workers from the rows until an operator resumes them."""
        change = Change(
            trace=_switch_trace,
            entry=_("Paused."),
            done=_("Paused %s."),
            nothing=_("Nothing paused: all selected rows are already paused."),
        )
        return self.change_rows(request, self._batches(request, queryset, paused=True), change)

    @admin.action(permissions=["pause"], description=gettext_lazy("Resume"))
    def resume(self, request: HttpRequest, queryset: Rows) -> HttpResponse | None:
        """Let workers continue at once, also if the rows back off."""
        change = Change(
            trace=_switch_trace,
            entry=_("Resumed."),
            done=_("Resumed %s."),
            nothing=_("Nothing resumed: none of the selected rows is paused or backing off."),
        )
        return self.change_rows(request, self._batches(request, queryset, paused=False), change)

    def _batches(self, request: HttpRequest, queryset: Rows, *, paused: bool) -> Iterator[Batch]:
        rows = queryset.using(chosen_database(request, self.model)).order_by(*self.ordering)
        for _key, group in groupby(rows, attrgetter(*self.group)):
            members = list(group)
            context = self._context_of(members[0], rows.db)
            same = rows.filter(pk__in=[row.pk for row in members])
            yield same, partial(self.switch, context, members, paused=paused)

    def _context_of(self, row: Any, using: str) -> Context:
        context = get_context(row.context)
        if context.database != using:
            raise OutboxInboxError(
                f"these {self.opts.verbose_name_plural} are in the database {using!r}, "
                f"but the context {context.label!r} uses the database {context.database!r}"
            )
        return context


def _switch_trace(row: Any) -> tuple[Any, ...]:
    return row.paused, row.retry_at
