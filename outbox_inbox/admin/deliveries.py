"""Deliveries: one message for one consumer, with its failed attempts."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from outbox_inbox.models import Delivery, DeliveryAttempt, InboxMessage

from . import rendering
from .actions import DeadLetterAdmin
from .base import is_permitted
from .columns import IDS, PROGRESS, TEXTS, MessageColumns, QueuedColumns, column, section
from .listing import (
    BlockedKeyFilter,
    ConsumerFilter,
    ContextFilter,
    FailedConsumerFilter,
    FailedContextFilter,
    ProgressFilter,
)

SHOWN_ATTEMPTS = 10
"""Attempts on the page of their delivery; the list of attempts has all of them."""
_SUMMARY = 160  # characters of the error in the headline of an attempt


@admin.register(Delivery)
class DeliveryAdmin(QueuedColumns, DeadLetterAdmin):
    """Deliveries."""

    path = "message__"
    unlisted = ("message__payload", "message__headers")
    list_display = (
        "consumer_name", "progress", "event_type", "key_text", "receive_time", "error_excerpt",
    )  # fmt: skip
    list_filter = (ProgressFilter, ContextFilter, BlockedKeyFilter, ConsumerFilter)
    list_select_related = ("message",)
    consumer_name = column(_("consumer"), rendering.dotted_name, "consumer")
    fieldsets = (
        section(None, *PROGRESS),
        section(
            _("Message"),
            "consumer",
            ("message_link", "context", "key_text"),
            *IDS,
            ("record_time", "receive_time", "partition"),
        ),
    )

    def message(self, row: Any) -> Any:
        return row.message

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the sections; the texts of the message only if the user may view messages."""
        sections = super().get_fieldsets(request, obj)
        return [*sections, *TEXTS] if is_permitted(request, "view", InboxMessage) else sections

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show a delivery with its newest failed attempts."""
        row = context.get("original")
        if row is not None and is_permitted(request, "view", DeliveryAttempt):
            context["failures"] = [
                (
                    each.number,
                    rendering.moment(each.failed_at),
                    rendering.excerpt(each.error, _SUMMARY),
                    rendering.preformatted(each.traceback),
                )
                for each in row.failures.order_by("-pk")[:SHOWN_ATTEMPTS]
            ]
            same = {"delivery__id__exact": row.pk}
            context["all_failures"] = self.list_address(DeliveryAttempt, row, **same)
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("message"))
    def message_link(self, row: Any) -> SafeString:
        return self.row_link(row.message, self.event_type(row))


@admin.register(DeliveryAttempt)
class DeliveryAttemptAdmin(MessageColumns):
    """Failed attempts of deliveries."""

    path = "delivery__message__"
    linked = ("delivery__id__exact",)
    unlisted = ("traceback",)
    list_display = (
        "attempt_number", "failure_time", "consumer", "key_text", "context", "error_excerpt",
    )  # fmt: skip
    list_filter = (FailedContextFilter, FailedConsumerFilter)
    list_select_related = ("delivery",)
    fieldsets = (
        section(None, "delivery_link", ("number", "failure_time"), "full_error"),
        section(_("Traceback"), "traceback_text", wide=True),
    )
    consumer = column(_("consumer"), rendering.dotted_name, "delivery.consumer")
    key_text = column(_("key"), rendering.line, "delivery.key")
    context = column(_("context"), str, "delivery.context")
    attempt_number = column(_("attempt"), "#{}".format, "number")
    failure_time = column(_("failed"), rendering.moment, "failed_at")
    error_excerpt = column(_("error"), rendering.excerpt, "error")
    full_error = column(_("error"), rendering.preformatted, "error")
    traceback_text = column(_("traceback"), rendering.preformatted, "traceback")

    def lookups(self, term: str) -> Iterable[Q]:
        """Look for the ids of the delivery's message, then for its key."""
        *indexed, _key = super().lookups(term)
        yield from indexed
        yield Q(delivery__key=term.removeprefix("key:"))

    @admin.display(description=_("delivery"))
    def delivery_link(self, row: Any) -> SafeString:
        return self.row_link(row.delivery)
