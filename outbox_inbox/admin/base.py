"""What all pages of the queues have in common: to look at, and never to edit."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from outbox_inbox.models import Delivery, InboxMessage, OutboxMessage, StoredEvent

from .databases import DatabaseFilter, chosen, query, with_query
from .listing import BoundedChangeList, BoundedPaginator, first_found

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Any, Any]
else:
    # Django's classes take no type arguments when the program runs.
    ModelAdmin = admin.ModelAdmin
    TabularInline = admin.TabularInline


PLACES = (
    (_("outbox"), OutboxMessage),
    (_("inbox"), InboxMessage),
    (_("deliveries"), Delivery),
    (_("stream"), StoredEvent),
)
"""Where the same message may be found."""


class ReadOnly:
    """No add, no change, no delete: neither by a page nor by an action."""

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        """Rows are made by ``record()`` and by the movers only."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """What was recorded is never changed."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Rows go away by ``prune_messages`` only."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        """Return all that is shown."""
        page: Any = self
        return [str(name) for name in flatten_fieldsets(page.get_fieldsets(request, obj))]


class QueueAdmin(ReadOnly, ModelAdmin):
    """List, filter, search and inspect the rows of one table.

    Attributes:
        unlisted: names of the wide columns that a list does not fetch.
    """

    unlisted: ClassVar[Sequence[str]] = ("payload", "headers")
    ordering: ClassVar[tuple[str, ...]] = ("-pk",)
    search_fields: ClassVar[tuple[str, ...]] = ()
    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    sortable_by = ()
    search_help_text = _(
        "A message id, a correlation id or a key, in full; key:… for a key only; #… for a row."
    )
    change_form_template = "admin/outbox_inbox/inspect.html"

    class Media:
        css = {"all": ("outbox_inbox/admin.css",)}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BoundedChangeList]:
        """Return the list that does not read what it does not show."""
        return BoundedChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows of the database that the page shows."""
        return super().get_queryset(request).using(chosen(request, self.model))

    def get_list_filter(self, request: HttpRequest) -> Any:
        """Return the filters, that of the database before all others."""
        return [DatabaseFilter, *super().get_list_filter(request)]

    def lookups(self, term: str) -> Iterable[Q]:
        """Return the exact look-ups for what was typed, those that an index serves first."""
        return ()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the rows with exactly this id or key; nothing is searched for a part of a text."""
        term = search_term.strip()
        if not term or not self.search_fields:
            return queryset, False
        if term.startswith("#"):
            number = term[1:]
            valid = number.isascii() and number.isdigit() and len(number) < 19
            return (queryset.filter(pk=int(number)) if valid else queryset.none()), False
        return first_found(queryset, self.lookups(term)), False

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show one row, with buttons for what this user may do to it."""
        row = context.get("original")
        if row is not None:
            context["buttons"] = self.buttons(request, row)
            context["list_address"] = self.address(self.model, "changelist", **query(row))
        return super().render_change_form(request, context, *args, **kwargs)

    def buttons(self, request: HttpRequest, row: Any) -> list[tuple[str, str]]:
        """Return the actions that this user may take on a row, as (name, label)."""
        return [(name, str(label)) for name, label in self.get_action_choices(request, [])]

    def address(self, model: type[Model], page: str, *args: Any, **query: Any) -> str:
        """Return the address of a page of this admin site: "changelist", or "change" with a key."""
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}"
        return with_query(reverse(name, args=args, current_app=self.admin_site.name), query)

    def identity(self, number: UUID, row: Model) -> SafeString:
        """Show an id with links to the lists in which it may be found."""
        links = format_html_join(
            " · ",
            '<a href="{}">{}</a>',
            (
                (self.address(model, "changelist", q=number, **query(row)), place)
                for place, model in PLACES
                if self.admin_site.is_registered(model)
            ),
        )
        return format_html('<code>{}</code> <span class="oi-links">{}</span>', number, links)
