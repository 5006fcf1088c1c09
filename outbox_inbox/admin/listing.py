"""Lists over tables of any size: no page reads, counts or sorts a whole table if it can help it."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from outbox_inbox.contexts import contexts
from outbox_inbox.models import OutboxMessage, QuarantineReason
from outbox_inbox.queues.statements import idle_state

from .databases import query, with_query

if TYPE_CHECKING:
    _Paginator = Paginator[Any]
else:
    # Django's class takes no type arguments when the program runs.
    _Paginator = Paginator

MOST = 10_000
"""Rows that are counted and can be paged through; a filter or a search leads to the others."""


IDLE_STATES = ("pending", "ready")
"""The states of what waits for its mover only, or for a time."""


class BoundedPaginator(_Paginator):
    """Count up to `MOST` rows and no further: an exact count reads the whole table."""

    @cached_property
    def count(self) -> int:
        """The number of rows, at most `MOST`."""
        return min(self._counted, MOST)

    @cached_property
    def there_are_more(self) -> bool:
        """Whether there are rows beyond those that can be paged through."""
        return self._counted > MOST

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: MOST + 1].count())


class BoundedChangeList(ChangeList):
    """Leave the wide columns where they are, and keep the order of the index."""

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> QuerySet[Any]:
        """Return the rows to list, without the texts that only the inspect page shows."""
        rows = super().get_queryset(request, exclude_parameters)
        return rows.defer(*getattr(self.model_admin, "unlisted", ()))

    def url_for_result(self, result: Any) -> str:
        """Return the address of a row's page, on the database of the row."""
        return with_query(super().url_for_result(result), query(result))

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Return the one order that an index serves; ``?o=`` could sort the whole table."""
        return list(self.model_admin.get_ordering(request))


class KnownValues(SimpleListFilter):
    """Filter by a column, offering what the project declares; the table is not asked.

    ``class TypeFilter(KnownValues, field="type")``; the address is that of Django's own filters,
    ``?type__exact=…``, and also takes a value that is no longer declared.
    """

    field: ClassVar[str]
    values: ClassVar[Callable[[], Iterable[str]]]

    def __init_subclass__(cls, field: str) -> None:
        super().__init_subclass__()
        cls.field = field
        # Django lets an address filter across a relation by the very name only.
        cls.parameter_name = field if "__" in field else f"{field}__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the declared values, and the one asked for."""
        asked = [value for value in [self.value()] if value]
        return [(value, value) for value in sorted({*type(self).values(), *asked})]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        """Return the rows with the value asked for."""
        value = self.value()
        if value is None:
            return queryset
        return _equal(queryset, self.field, value)


def _equal(rows: QuerySet[Any], field: str, value: str) -> QuerySet[Any]:
    # PostgreSQL's text holds no NUL, and its driver refuses to look for one.
    return rows.none() if "\0" in value else rows.filter(**{field: value})


class ContextFilter(KnownValues, field="context"):
    """By bounded context."""

    title = _("context")

    @staticmethod
    def values() -> Iterable[str]:
        """Return the labels of the project's contexts."""
        return (context.label for context in contexts())


class FailedContextFilter(ContextFilter, field="delivery__context"):
    """By the bounded context of the delivery that failed."""


class TypeFilter(KnownValues, field="type"):
    """By the stored name of the event's class."""

    title = _("type")

    @staticmethod
    def values() -> Iterable[str]:
        """Return the stored names of the events that the contexts know."""
        return (name for context in contexts() for name in context.events)


class ConsumerFilter(KnownValues, field="consumer"):
    """By consumer."""

    title = _("consumer")

    @staticmethod
    def values() -> Iterable[str]:
        """Return the names of all consumers."""
        return (name for context in contexts() for name in context.consumers)


class FailedConsumerFilter(ConsumerFilter, field="delivery__consumer"):
    """By the consumer of the delivery that failed."""


class StateFilter(SimpleListFilter):
    """By state, in a form that the partial indexes serve."""

    title = _("state")
    parameter_name = "state__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[Any]:
        """Return the states of the model."""
        return list(model_admin.opts.get_field("state").flatchoices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        """Return the rows in the state asked for."""
        value = self.value()
        if value is None:
            return queryset
        rows = _equal(queryset, "state", value)
        if value not in IDLE_STATES:
            return rows
        # Always true. There is one index on what is due at once and one on what is due at a time;
        # put like this, the planner sees that the two together hold all that is asked for.
        return rows.filter(Q(due_at__isnull=True) | Q(due_at__isnull=False))


class ProgressFilter(StateFilter):
    """By state; and of what is due at a time, what was never tried and what has failed."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[Any]:
        """Return the states of the model, and what such a row waits for."""
        idle, *others = super().lookups(request, model_admin)
        later = [("backing_off", _("backing off"))]
        if model_admin.model is OutboxMessage:  # a delivery is given a time by a failure only
            later.insert(0, ("scheduled", _("scheduled")))
        return [idle, *later, *others]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        """Return the rows in the state asked for."""
        idle = idle_state(queryset.model)
        match self.value():
            case "backing_off":
                return queryset.filter(state=idle, due_at__isnull=False, attempts__gt=0)
            case "scheduled":
                return queryset.filter(state=idle, due_at__gt=timezone.now(), attempts=0)
        return super().queryset(request, queryset)


class ReasonFilter(KnownValues, field="reason"):
    """By why a message was kept aside."""

    title = _("reason")

    @staticmethod
    def values() -> Iterable[str]:
        """Return all reasons."""
        return QuarantineReason.values

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the reasons with their names."""
        return [(each.value, str(each.label)) for each in QuarantineReason]


class ParkedFilter(SimpleListFilter):
    """The messages or deliveries that others of their key wait for."""

    title = _("key")
    parameter_name = "holds__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[Any]:
        """Return the one choice: what has to be solved for the others to go on."""
        return [("1", _("head of a parked key"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        """Return the heads of parked keys, if asked for."""
        return queryset.filter(holds=True) if self.value() == "1" else queryset


def as_uuid(term: str) -> UUID | None:
    """Return the UUID that a term is, in any usual form (braces, no hyphens, urn:uuid:)."""
    try:
        return UUID(term)
    except ValueError:
        return None


def first_found(rows: QuerySet[Model], lookups: Iterable[Q]) -> QuerySet[Model]:
    """Return the rows of the first look-up that finds any.

    The look-ups an index serves come first, so that a table is read from end to end only when
    none of them finds anything.
    """
    *indexed, last = lookups
    for lookup in indexed:
        found = rows.filter(lookup)
        if found.order_by().exists():
            return found
    return rows.filter(last)
