"""The inbox in the admin: what contexts received, and how far its consumers are."""

from typing import Any

from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from outbox_inbox.models import Delivery, InboxMessage

from . import rendering
from .base import ReadOnly, TabularInline
from .columns import IDENTITY, TEXTS, MessageColumns, ProgressColumns
from .databases import chosen, query, with_query
from .listing import BoundedChangeList, ContextFilter, TypeFilter


class InboxChangeList(BoundedChangeList):
    """A list of messages with the states of their deliveries: one more query a page."""

    def get_results(self, request: HttpRequest) -> None:
        """Find the page's messages, and have their deliveries fetched with them."""
        super().get_results(request)
        states = Delivery.objects.only("message_id", "consumer", "state").order_by("pk")
        rows: Any = self.result_list
        self.result_list = rows.prefetch_related(Prefetch("deliveries", states))


class DeliveryInline(ReadOnly, ProgressColumns, TabularInline):
    """The deliveries of a message."""

    model = Delivery
    fields = ("link", "standing", "attempts", "finished", "trouble")
    ordering = ("pk",)
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return deliveries of the database that the page shows."""
        return super().get_queryset(request).using(chosen(request, InboxMessage))

    @admin.display(description=_("consumer"))
    def link(self, row: Any) -> SafeString:
        """Link to the delivery."""
        address = reverse(
            "admin:outbox_inbox_delivery_change", args=[row.pk], current_app=self.admin_site.name
        )
        return format_html('<a href="{}">{}</a>', with_query(address, query(row)), row.consumer)


@admin.register(InboxMessage)
class InboxMessageAdmin(MessageColumns):
    """Messages of the inbox."""

    list_display = ("typed", "deliveries", "key", "context", "source", "recorded", "received")
    list_filter = (ContextFilter, TypeFilter)
    inlines = (DeliveryInline,)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("typed", "source"),
                    ("context", "key"),
                    *IDENTITY,
                    ("recorded", "received", "hops"),
                )
            },
        ),
        *TEXTS,
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BoundedChangeList]:
        """Return the list that also fetches deliveries."""
        return InboxChangeList

    @admin.display(description=_("deliveries"))
    def deliveries(self, row: Any) -> SafeString:
        """Show the state of each delivery; its consumer is in the title."""
        return format_html_join(
            " ",
            '<span title="{}">{}</span>',
            (
                (each.consumer, rendering.state(each.state, each.get_state_display()))
                for each in row.deliveries.all()
            ),
        )
