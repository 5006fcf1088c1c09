"""List, search and inspect stored rows, and never edit them.

A row that an operator could edit, add or delete would be a message that was lost, handled twice or
out of order.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar
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

from . import rendering
from .databases import DatabaseFilter, chosen_database, database_query
from .listing import BoundedChangeList, BoundedPaginator, first_match

ID_LINKS = (
    (_("outbox"), OutboxMessage),
    (_("inbox"), InboxMessage),
    (_("deliveries"), Delivery),
    (_("stream"), StoredEvent),
)
"""The lists that may have a message of an id."""


def _parameter(list_filter: Any) -> str:
    """Return what a filter adds to the address: Django's own, of a field, an exact look-up."""
    if isinstance(list_filter, str):
        return f"{list_filter}__exact"
    return str(list_filter.parameter_name)


class ReadOnly:
    """Refuse to add, change and delete, on pages and in actions."""

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        """Refuse: only ``record()`` and the workers make rows."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: what was recorded never changes."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: only ``prune_messages`` removes rows."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        page: Any = self
        return [str(name) for name in flatten_fieldsets(page.get_fieldsets(request, obj))]


def is_permitted(request: HttpRequest, verb: str, model: type[Model]) -> bool:
    """Return whether the user has the permission for a verb, such as "retry", on a model."""
    user: Any = request.user
    return bool(user.has_perm(f"{model._meta.app_label}.{verb}_{model._meta.model_name}"))


class QueueAdmin(ReadOnly, admin.ModelAdmin):
    """List, filter, search and inspect the rows of one table.

    Attributes:
        unlisted: names of the wide columns that a list does not read.
        change_list: the class of the list.
        linked: the look-ups by which other pages lead to this list.
    """

    unlisted: ClassVar[Sequence[str]] = ("payload", "headers")
    change_list: ClassVar[type[BoundedChangeList]] = BoundedChangeList
    linked: ClassVar[Sequence[str]] = ()
    ordering: ClassVar[tuple[str, ...]] = ("-pk",)
    search_fields: ClassVar[tuple[str, ...]] = ()
    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    sortable_by = ()
    search_help_text = _(
        "Search for a message id, a correlation id or a key, in full. "
        "Type key:… to search for a key only, or #… for a row number."
    )
    change_form_template = "admin/outbox_inbox/inspect.html"

    class Media:
        css = {"all": ("outbox_inbox/admin.css",)}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BoundedChangeList]:
        return self.change_list

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).using(chosen_database(request, self.model))

    def get_list_filter(self, request: HttpRequest) -> Any:
        return [DatabaseFilter, *super().get_list_filter(request)]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Allow the look-ups of the filters and of links, and no other that an address may have.

        Another could find out a payload character by character without the permission to see it,
        read a table of millions of rows, or be one that the database refuses.
        """
        names = [_parameter(each) for each in self.get_list_filter(request)]
        return lookup in names or lookup in self.linked

    def lookups(self, term: str) -> Iterable[Q]:
        """Return the exact look-ups for a search term, those that an index serves first."""
        return ()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the rows with exactly this id or key; a search never matches part of a text."""
        term = search_term.strip()
        if not term or not self.search_fields:
            return queryset, False
        if term.startswith("#"):
            number = term[1:]
            valid = number.isascii() and number.isdigit() and len(number) < 19
            return (queryset.filter(pk=int(number)) if valid else queryset.none()), False
        return first_match(queryset, self.lookups(term)), False

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show one row, with a button for each action that the user may take on it."""
        row = context.get("original")
        if row is not None:
            context["buttons"] = self.buttons(request, row)
            context["list_address"] = self.list_address(self.model, row)
        return super().render_change_form(request, context, *args, **kwargs)

    def buttons(self, request: HttpRequest, row: Any) -> list[tuple[str, str]]:
        """Return the actions that the user may take on a row, as (name, label)."""
        return [(name, str(label)) for name, label in self.get_action_choices(request, [])]

    def address(self, model: type[Model], page: str, *args: Any, **parameters: Any) -> str:
        """Return the address of a page of this admin site: "changelist", or "change" with a key."""
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}"
        return reverse(name, args=args, current_app=self.admin_site.name, query=parameters)

    def list_address(self, model: type[Model], row: Model, **filters: Any) -> str:
        """Return the address of a filtered list on the database of a row."""
        return self.address(model, "changelist", **filters, **database_query(row))

    def row_link(self, row: Model, text: object = None) -> SafeString:
        """Link to the page of a row, with a text that is by default the row's own."""
        address = self.address(type(row), "change", row.pk, **database_query(row))
        return rendering.link(address, row if text is None else text)

    def id_links(self, number: UUID, row: Model) -> SafeString:
        """Show an id with a link to each list that may have a message of this id."""
        links = format_html_join(
            " · ",
            "{}",
            (
                (rendering.link(self.list_address(model, row, q=number), name),)
                for name, model in ID_LINKS
                if self.admin_site.is_registered(model)
            ),
        )
        return format_html('<code>{}</code> <span class="oi-links">{}</span>', number, links)
