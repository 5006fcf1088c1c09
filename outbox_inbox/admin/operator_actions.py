"""What operators did, in the admin and from a terminal: on the page of each row, and as a list."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from outbox_inbox.models import OperatorAction
from outbox_inbox.models.operators import ROW_FIELDS

from . import rendering
from .base import QueueAdmin
from .columns import column, section
from .listing import ContextFilter

SHOWN_ACTIONS = 20
"""Actions on the page of their row; the list of actions has all of them."""


class TracedAdmin(QueueAdmin):
    """Show on the pages of a row what operators did to it, wherever they did it."""

    object_history_template = "admin/outbox_inbox/history.html"

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show a row with the actions of operators on it."""
        if (row := context.get("original")) is not None:
            context["operator_actions"] = self._actions_on(row)
        return super().render_change_form(request, context, *args, **kwargs)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the history of a row, with what was done from a terminal."""
        row = self.get_object(request, unquote(object_id))
        shown = [] if row is None else self._actions_on(row)
        return super().history_view(
            request,
            object_id,
            {"media": self.media, **(extra_context or {}), "operator_actions": shown},
        )

    def _actions_on(self, row: Any) -> list[tuple[object, ...]]:
        found = row.operator_actions.order_by("-pk")[:SHOWN_ACTIONS]
        return [
            (
                rendering.moment(each.done_at),
                rendering.line(each.operator),
                each.get_verb_display(),
                each.attempts,
                rendering.excerpt(each.error, rendering.MOST_OF_LINE),
                rendering.excerpt(each.reason, rendering.MOST_OF_LINE),
            )
            for each in found
        ]


@admin.register(OperatorAction)
class OperatorActionAdmin(QueueAdmin):
    """Actions of operators, the newest first."""

    unlisted: ClassVar[Sequence[str]] = (
        "outbox_message__payload",
        "outbox_message__headers",
        "quarantined_message__data",
        "quarantined_message__attributes",
    )
    list_display = (
        "verb", "row_text", "operator_name", "action_time", "attempts", "error_excerpt",
    )  # fmt: skip
    list_filter = (ContextFilter, "verb")
    fieldsets = (
        section(None, "verb", "row_text", ("operator_name", "action_time"), "full_reason"),
        section(_("Before"), "attempts", "full_error"),
    )
    operator_name = column(_("operator"), rendering.line, "operator")
    action_time = column(_("done"), rendering.moment, "done_at")
    full_error = column(_("error before"), rendering.full_error, "error")
    full_reason = column(_("reason"), rendering.full_error, "reason")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return actions with their rows: one that an older version has removed is None then."""
        return super().get_queryset(request).select_related(*ROW_FIELDS.values())

    @admin.display(description=_("reason, or error before"))
    def error_excerpt(self, action: OperatorAction) -> str:
        return rendering.excerpt(action.reason or action.error)

    @admin.display(description=_("message"))
    def row_text(self, action: OperatorAction) -> SafeString:
        """Link to the row that was changed."""
        found = (getattr(action, name) for name in ROW_FIELDS.values())
        return next((self.row_link(row) for row in found if row is not None), rendering.EMPTY)
