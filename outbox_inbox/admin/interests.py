"""Who listens, and to what: the consumers, subscriptions and read models that the database knows."""

from typing import Any

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from outbox_inbox.models import Delivery, Interest, InterestKind

from . import rendering
from .base import QueueAdmin
from .columns import column, section
from .listing import ContextFilter, TypeFilter


@admin.register(Interest)
class InterestAdmin(QueueAdmin):
    """Interests: each consumer, subscription or read model with one type of event."""

    unlisted = ()
    list_display = ("listener", "kind", "event_type", "state_badge", "confirm_time", "deliveries")
    list_filter = (ContextFilter, "kind", TypeFilter)
    ordering = ("context", "kind", "name", "type")
    fieldsets = (
        section(None, "state_badge", "confirm_time", "retire_time", "new_name", "deliveries"),
        section(
            _("Interest"),
            ("context", "kind", "name_text"),
            ("event_type",),
            ("alias", "hash"),
        ),
    )
    confirm_time = column(_("last confirmed"), rendering.moment, "confirmed_at")
    name_text = column(_("name"), rendering.dotted_name, "name")
    new_name = column(_("renamed to"), rendering.line, "renamed_to")
    retire_time = column(_("retired"), rendering.moment, "retired_at")

    @admin.display(description=_("listener"))
    def listener(self, row: Interest) -> SafeString:
        name = rendering.dotted_name(row.name)
        # Most names of consumers begin with the label of their context.
        return (
            name
            if row.name.startswith(f"{row.context}.")
            else format_html("{} {}", row.context, name)
        )

    @admin.display(description=_("type"))
    def event_type(self, row: Interest) -> SafeString:
        return format_html("{} v{}", rendering.dotted_name(row.type), row.schema_version)

    @admin.display(description=_("state"))
    def state_badge(self, row: Interest) -> SafeString:
        """Say whether it gets messages."""
        if row.renamed_to:
            renamed = rendering.badge("discarded", _("renamed"))
            return rendering.detailed(renamed, rendering.line(row.renamed_to))
        if row.retired_at is not None:
            return rendering.badge("discarded", _("retired"))
        return rendering.badge("done", _("listens"))

    @admin.display(description=_("deliveries"))
    def deliveries(self, row: Any) -> SafeString:
        """Link to the deliveries of a consumer, also of one that the code does not have any more."""
        if row.kind != InterestKind.CONSUMER:
            return rendering.EMPTY
        which = {"context__exact": row.context, "consumer__exact": row.name}
        return rendering.link(self.list_address(Delivery, row, **which), _("deliveries"))
