"""List and filter tables of any size.

Django's own change list counts and sorts the whole table, and its filters read it. With millions of
finished messages such a page would time out, and load the database of a system in trouble.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Exists, Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from outbox_inbox.contexts import contexts
from outbox_inbox.models import OutboxMessage, QuarantineReason
from outbox_inbox.queues.statements import idle_state
from outbox_inbox.signals.escaping import visible

from .databases import database_query
from .rendering import IDLE_STATES

MOST_LISTED = 10_000
"""Rows that a list counts and pages through; a filter or a search leads to the others."""
NUL = "\0"
"""PostgreSQL's text cannot contain it, and its driver refuses to look for one."""


class BoundedPaginator(Paginator):
    """Count at most `MOST_LISTED` rows: an exact count reads the whole table."""

    @cached_property
    def count(self) -> int:
        """The number of rows, at most `MOST_LISTED`."""
        return min(self._counted, MOST_LISTED)

    @cached_property
    def there_are_more(self) -> bool:
        """Whether there are rows beyond those that can be paged through."""
        return self._counted > MOST_LISTED

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: MOST_LISTED + 1].count())


class BoundedChangeList(ChangeList):
    """List rows without their wide columns, in the order of an index."""

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> QuerySet[Any]:
        """Return the rows to list, without the texts that only an inspect page shows."""
        rows = super().get_queryset(request, exclude_parameters)
        if any(NUL in value for _, values in request.GET.lists() for value in values):
            rows = rows.none()
        return rows.defer(*getattr(self.model_admin, "unlisted", ()))

    def url_for_result(self, result: Any) -> str:
        """Return the address of a row's page, with the database of the row."""
        query = urlencode(database_query(result))
        return super().url_for_result(result) + (f"?{query}" if query else "")

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Return the one order that an index serves; ``?o=`` could sort the whole table."""
        return list(self.model_admin.get_ordering(request))


class DeclaredFilter(SimpleListFilter):
    """Filter by a column, offering what the project declares without reading the table.

    The address is that of Django's own filters, ``?type__exact=…``. It also takes a value that is
    no longer declared.
    """

    field: ClassVar[str]
    values: ClassVar[Callable[[], Iterable[str]]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the declared values, and the one that the address has."""
        asked = [value for value in [self.value()] if value]
        return [(value, visible(value)) for value in sorted({*type(self).values(), *asked})]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        value = self.value()
        return queryset if value is None else _equal(queryset, self.field, value)


def _equal(rows: QuerySet[Any], field: str, value: str) -> QuerySet[Any]:
    return rows.filter(**{field: value})


def _context_labels() -> Iterable[str]:
    return (context.label for context in contexts())


def _consumer_names() -> Iterable[str]:
    return (name for context in contexts() for name in context.consumers)


def _event_types() -> Iterable[str]:
    return (name for context in contexts() for name in context.events)


def declared_filter(
    field: str, title: Any, values: Callable[[], Iterable[str]]
) -> type[DeclaredFilter]:
    """Return a filter by a column, or by one of a related table ("delivery__context")."""
    # In an address, Django accepts a field of a related table by its plain name only.
    name = field if "__" in field else f"{field}__exact"
    members = {"field": field, "title": title, "parameter_name": name}
    return type("DeclaredFilter", (DeclaredFilter,), {**members, "values": staticmethod(values)})


ContextFilter = declared_filter("context", _("context"), _context_labels)
TypeFilter = declared_filter("type", _("type"), _event_types)
ConsumerFilter = declared_filter("consumer", _("consumer"), _consumer_names)
FailedContextFilter = declared_filter("delivery__context", _("context"), _context_labels)
FailedConsumerFilter = declared_filter("delivery__consumer", _("consumer"), _consumer_names)


class ReasonFilter(DeclaredFilter):
    """By the reason for which a message was quarantined."""

    field = "reason"
    title = _("reason")
    parameter_name = "reason__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(each.value, str(each.label)) for each in QuarantineReason]


class ConditionFilter(SimpleListFilter):
    """Filter by conditions with names.

    Attributes:
        conditions: value in the address -> what the page calls it, and the condition.
    """

    conditions: ClassVar[Mapping[str, tuple[Any, Q | Exists]]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(value, label) for value, (label, _condition) in self.conditions.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.conditions.get(self.value() or "")
        return queryset if chosen is None else queryset.filter(chosen[1])


class BlockedKeyFilter(ConditionFilter):
    """The messages or deliveries that block the later ones of their key."""

    title = _("key")
    parameter_name = "holds__exact"
    conditions: ClassVar = {"1": (_("blocks its key"), Q(holds=True))}


class StateFilter(SimpleListFilter):
    """By state, with conditions that the partial indexes serve."""

    title = _("state")
    parameter_name = "state__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[Any]:
        return list(model_admin.opts.get_field("state").flatchoices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        value = self.value()
        if value is None:
            return queryset
        rows = _equal(queryset, "state", value)
        if value not in IDLE_STATES:
            return rows
        # Always true. One index has the rows that are due at once, another those with a due time;
        # written like this, the planner sees that the two together have all of them.
        return rows.filter(Q(due_at__isnull=True) | Q(due_at__isnull=False))


class ProgressFilter(StateFilter):
    """By state; rows with a due time are scheduled, or backing off after a failure."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[Any]:
        idle, *others = super().lookups(request, model_admin)
        timed = [("backing_off", _("backing off"))]
        if model_admin.model is OutboxMessage:  # only a failure gives a delivery a due time
            timed.insert(0, ("scheduled", _("scheduled")))
        return [idle, *timed, *others]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        idle = idle_state(queryset.model)
        match self.value():
            case "backing_off":
                return queryset.filter(state=idle, due_at__isnull=False, attempts__gt=0)
            case "scheduled":
                return queryset.filter(state=idle, due_at__gt=timezone.now(), attempts=0)
        return super().queryset(request, queryset)


def bounded_count(count: int) -> str:
    """Return a count as text; of one that goes beyond `MOST_LISTED`, that it does."""
    return f"{MOST_LISTED:,}+" if count > MOST_LISTED else f"{count:,}"


def as_uuid(term: str) -> UUID | None:
    """Return a term as a UUID, if it is one in any usual form (braces, no hyphens, urn:uuid:)."""
    try:
        return UUID(term)
    except ValueError:
        return None


def first_match(rows: QuerySet[Model], lookups: Iterable[Q]) -> QuerySet[Model]:
    """Return the rows of the first look-up that finds any.

    The look-ups that an index serves come first, so that the table is read from end to end only if
    none of them finds anything.
    """
    *indexed, last = lookups
    for lookup in indexed:
        found = rows.filter(lookup)
        if found.order_by().exists():
            return found
    return rows.filter(last)
