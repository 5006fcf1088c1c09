"""Deliveries in the admin: one message for one consumer, with its failed attempts."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from outbox_inbox.models import Delivery, DeliveryAttempt, InboxMessage

from . import rendering
from .actions import SolvingAdmin
from .columns import (
    IDENTITY,
    PROGRESS,
    TEXTS,
    InstanceColumns,
    KeyColumns,
    MessageColumns,
    ProgressColumns,
)
from .databases import query
from .listing import (
    ConsumerFilter,
    ContextFilter,
    FailedConsumerFilter,
    FailedContextFilter,
    ParkedFilter,
    ProgressFilter,
)

SHOWN_ATTEMPTS = 10
"""Attempts that stand on the page of their delivery; the list of attempts has them all."""


@admin.register(Delivery)
class DeliveryAdmin(ProgressColumns, KeyColumns, InstanceColumns, MessageColumns, SolvingAdmin):
    """Deliveries."""

    path = "message__"
    unlisted = ("message__payload", "message__headers")
    list_display = ("named", "progress", "typed", "key", "received", "trouble")
    list_filter = (ProgressFilter, ContextFilter, ParkedFilter, ConsumerFilter)
    list_select_related = ("message",)
    fieldsets = (
        (None, {"fields": PROGRESS}),
        (
            _("Message"),
            {
                "fields": (
                    "consumer",
                    ("message_link", "context", "key"),
                    *IDENTITY,
                    ("recorded", "received", "partition"),
                )
            },
        ),
    )

    def message(self, row: Any) -> Any:
        """Return the message that is delivered."""
        return row.message

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the sections; the texts of the message for those who may view messages."""
        sections = super().get_fieldsets(request, obj)
        return [*sections, *TEXTS] if may_view(request, InboxMessage) else sections

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show a delivery with its newest failed attempts."""
        row = context.get("original")
        if row is not None and may_view(request, DeliveryAttempt):
            failures = row.failures.order_by("-pk")[:SHOWN_ATTEMPTS]
            context["failures"] = [
                (each, rendering.moment(each.failed_at), rendering.preformatted(each.traceback))
                for each in failures
            ]
            context["all_failures"] = self.address(
                DeliveryAttempt, "changelist", delivery__id__exact=row.pk, **query(row)
            )
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("consumer"))
    def named(self, row: Any) -> SafeString:
        """Show the consumer."""
        return rendering.name(row.consumer)

    @admin.display(description=_("message"))
    def message_link(self, row: Any) -> SafeString:
        """Link to the message in the inbox."""
        return format_html(
            '<a href="{}">{}</a>',
            self.address(InboxMessage, "change", row.message_id, **query(row)),
            self.typed(row),
        )


@admin.register(DeliveryAttempt)
class DeliveryAttemptAdmin(MessageColumns):
    """Failed attempts of deliveries."""

    path = "delivery__message__"
    unlisted = ("traceback",)
    list_display = ("numbered", "failed", "consumer", "key", "context", "excerpt")
    list_filter = (FailedContextFilter, FailedConsumerFilter)
    list_select_related = ("delivery",)
    fieldsets = (
        (None, {"fields": ("delivery_link", ("number", "failed"), "full_error")}),
        (_("Traceback"), {"fields": ("trace",), "classes": ("oi-wide",)}),
    )

    def lookups(self, term: str) -> Iterable[Q]:
        """Look for the ids of the delivery's message, else for its key."""
        *indexed, _key = super().lookups(term)
        yield from indexed
        yield Q(delivery__key=term.removeprefix("key:"))

    @admin.display(description=_("attempt"))
    def numbered(self, row: Any) -> str:
        """Show which attempt it was."""
        return f"#{row.number}"

    @admin.display(description=_("failed"))
    def failed(self, row: Any) -> SafeString:
        """Show when it failed."""
        return rendering.moment(row.failed_at)

    @admin.display(description=_("consumer"))
    def consumer(self, row: Any) -> str:
        """Show the consumer of the delivery."""
        return str(row.delivery.consumer)

    @admin.display(description=_("key"))
    def key(self, row: Any) -> Any:
        """Show the key of the delivery."""
        return row.delivery.key

    @admin.display(description=_("context"))
    def context(self, row: Any) -> str:
        """Show the context of the delivery."""
        return str(row.delivery.context)

    @admin.display(description=_("error"))
    def excerpt(self, row: Any) -> str:
        """Show the error in short."""
        return rendering.excerpt(row.error)

    @admin.display(description=_("error"))
    def full_error(self, row: Any) -> SafeString:
        """Show the error in full."""
        return rendering.preformatted(row.error)

    @admin.display(description=_("traceback"))
    def trace(self, row: Any) -> SafeString:
        """Show the traceback."""
        return rendering.preformatted(row.traceback)

    @admin.display(description=_("delivery"))
    def delivery_link(self, row: Any) -> SafeString:
        """Link to the delivery that failed."""
        return format_html(
            '<a href="{}">{}</a>',
            self.address(Delivery, "change", row.delivery_id, **query(row)),
            row.delivery,
        )


def may_view(request: HttpRequest, model: type[InboxMessage] | type[DeliveryAttempt]) -> bool:
    """Tell whether the user may see rows of a model."""
    user: Any = request.user
    return bool(user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}"))
