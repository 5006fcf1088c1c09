"""Pause and resume partitions and read models."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, ClassVar

from django.contrib import admin
from django.db import connections, transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from outbox_inbox.contexts import Context, get_context
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.queues.partitions import lock_by_key

from . import rendering
from .actions import Batch, Change, OperatorAdmin, Rows, permission
from .columns import column
from .databases import chosen_database


class SwitchAdmin(OperatorAdmin):
    """Pause rows, and resume those that are paused or back off.

    Attributes:
        group: the columns in which all rows of one call of `switch` agree.
    """

    actions = ("pause", "resume")
    list_per_page = 200
    group: ClassVar[tuple[str, ...]]
    error_excerpt = column(_("reason"), rendering.excerpt, "error")
    full_error = column(_("reason"), rendering.full_error, "error")
    has_pause_permission = permission("pause")

    def switch(self, context: Context, rows: Sequence[Any], *, paused: bool) -> None:
        raise NotImplementedError

    @contextmanager
    def locked(self, rows: Rows) -> Iterator[None]:
        with transaction.atomic(using=rows.db):
            if connections[rows.db].features.has_select_for_update:
                lock_by_key(rows)
            else:
                rows.update(paused=F("paused"))  # takes SQLite's lock, which is on the database
            yield

    def buttons(self, request: HttpRequest, row: Any) -> list[tuple[str, str]]:
        """Return Pause, or Resume for a row that is paused, or both for one that backs off."""
        useless = {"pause"} if row.paused else set() if row.retry_at else {"resume"}
        return [each for each in super().buttons(request, row) if each[0] not in useless]

    @admin.action(permissions=["pause"], description=_("Pause"))
    def pause(self, request: HttpRequest, queryset: Rows) -> HttpResponse | None:
        """Keep workers from the rows until an operator resumes them."""
        nothing = _("Nothing paused: all selected rows are already paused.")
        change = Change(_switch_trace, _("Paused."), _("Paused %s."), nothing)
        return self.change_rows(request, self._batches(request, queryset, paused=True), change)

    @admin.action(permissions=["pause"], description=_("Resume"))
    def resume(self, request: HttpRequest, queryset: Rows) -> HttpResponse | None:
        """Let workers continue at once, also if the rows back off."""
        nothing = _("Nothing resumed: none of the selected rows is paused or backing off.")
        change = Change(_switch_trace, _("Resumed."), _("Resumed %s."), nothing)
        return self.change_rows(request, self._batches(request, queryset, paused=False), change)

    def _batches(self, request: HttpRequest, queryset: Rows, *, paused: bool) -> Iterator[Batch]:
        rows = queryset.using(chosen_database(request, self.model)).order_by(*self.ordering)
        for _key, group in groupby(rows, attrgetter(*self.group)):
            members = list(group)
            context = get_context(members[0].context)
            if context.database != rows.db:
                raise OutboxInboxError(
                    f"these {self.opts.verbose_name_plural} are in the database {rows.db!r}, "
                    f"but the context {context.label!r} uses the database {context.database!r}"
                )
            same = rows.filter(pk__in=[row.pk for row in members])
            yield same, partial(self.switch, context, members, paused=paused)


def _switch_trace(row: Any) -> tuple[Any, ...]:
    return row.paused, row.retry_at
