"""The inbox: what contexts have received, with the state of each delivery."""

from typing import Any

from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from outbox_inbox.models import Delivery, InboxMessage

from . import rendering
from .base import ReadOnly
from .columns import IDS, TEXTS, MessageColumns, ProgressColumns, column, section
from .databases import chosen_database, database_query
from .listing import BoundedChangeList, ContextFilter, TypeFilter


class InboxChangeList(BoundedChangeList):
    """List messages with the states of their deliveries: one more query a page."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        shown = ("message_id", "consumer", "state", "attempts", "due_at")
        states = Delivery.objects.only(*shown).order_by("pk")
        rows: Any = self.result_list
        self.result_list = rows.prefetch_related(Prefetch("deliveries", states))


class DeliveryInline(ReadOnly, ProgressColumns, admin.TabularInline):
    """The deliveries of a message."""

    model = Delivery
    fields = ("consumer_link", "state_badge", "attempts", "finish_time", "error_excerpt")
    ordering = ("pk",)
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).using(chosen_database(request, InboxMessage))

    @admin.display(description=_("consumer"))
    def consumer_link(self, row: Any) -> SafeString:
        name, site = "admin:outbox_inbox_delivery_change", self.admin_site.name
        address = reverse(name, args=[row.pk], current_app=site, query=database_query(row))
        return rendering.link(address, row.consumer)


@admin.register(InboxMessage)
class InboxMessageAdmin(MessageColumns):
    """Messages of the inbox."""

    change_list = InboxChangeList
    list_display = (
        "event_type", "deliveries", "key_text", "context", "source_text", "record_time", "receive_time",
    )  # fmt: skip
    list_filter = (ContextFilter, TypeFilter)
    inlines = (DeliveryInline,)
    fieldsets = (
        section(
            None,
            ("event_type", "source_text"),
            ("context", "key_text"),
            *IDS,
            ("record_time", "receive_time", "hops"),
        ),
        *TEXTS,
    )

    source_text = column(_("source"), rendering.line, "source")

    @admin.display(description=_("deliveries"))
    def deliveries(self, row: Any) -> SafeString:
        return format_html_join(
            " ",
            '<span title="{}">{}</span>',
            ((each.consumer, rendering.progress_badge(each)) for each in row.deliveries.all()),
        )
