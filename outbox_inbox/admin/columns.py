"""The columns that several pages share."""

from collections.abc import Callable, Iterable
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from . import rendering
from .attempt_counts import attempts_text, earlier_attempts
from .base import QueueAdmin
from .listing import MOST_LISTED, BoundedChangeList, as_uuid, bounded_count
from .process_links import find_instance, process_of

IDS = ("message_id_links", "correlation_links", "causation_links")
"""The ids of a message."""

PROGRESS = ("state_badge", "full_error", "attempt_count", "key_order", "finish_time")
"""The first section of an inspect page."""


def section(title: Any, *fields: Any, wide: bool = False) -> tuple[Any, Any]:
    """Return a section of an inspect page; a wide one shows texts without their labels."""
    return title, {"fields": fields, **({"classes": ("oi-wide",)} if wide else {})}


TEXTS = (
    section(_("Payload"), "pretty_payload", wide=True),
    section(_("Headers"), "pretty_headers", wide=True),
)
"""The last sections of an inspect page."""


def column(
    label: Any, show: Callable[[Any], Any], field: str, *, of_message: bool = False
) -> Callable[[Any, Any], Any]:
    """Return a column that shows a field of a row, of its message, or of a related row."""
    value = attrgetter(field)

    @admin.display(description=label)
    def shown(page: Any, row: Any) -> Any:
        return show(value(page.message(row) if of_message else row))

    return shown


message_column = partial(column, of_message=True)


def text_column(label: Any, field: str) -> Callable[..., Any]:
    """Return a column that shows a text of the message, or when it was removed."""

    @admin.display(description=label)
    def shown(page: Any, row: Any) -> SafeString:
        message = page.message(row)
        # Only messages of the inbox outlive their texts.
        if getattr(message, "emptied_at", None) is None:
            return rendering.document(getattr(message, field))
        when = rendering.moment(message.emptied_at)
        return format_html("{} {}", _("removed after RETENTION:"), when)

    return shown


def id_column(label: Any, field: str) -> Callable[..., Any]:
    """Return a column that links from an id of the message to the lists that may have it."""

    @admin.display(description=label)
    def links(page: Any, row: Any) -> SafeString:
        number = getattr(page.message(row), field)
        return page.id_links(number, row) if number else rendering.EMPTY

    return links


class ProgressChangeList(BoundedChangeList):
    """List rows with the attempts before their last retry: one more query a page."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list: Any = list(self.result_list)
        earlier = earlier_attempts(self.result_list)
        for row in self.result_list:
            row.earlier = earlier.get(row.pk, 0)


class ProgressColumns:
    """The state of an outbox message or a delivery, and what went wrong."""

    finish_time = column(_("finished"), rendering.moment, "finished_at")
    error_excerpt = column(_("error or reason"), rendering.excerpt, "error")
    full_error = column(_("error or reason"), rendering.full_error, "error")

    @admin.display(description=_("state"))
    def state_badge(self, row: Any) -> SafeString:
        """Show the state, and the due time of a row that is scheduled or backing off."""
        return rendering.progress_badge(row)

    @admin.display(description=_("state"))
    def progress(self, row: Any) -> SafeString:
        """Show the state with the number of attempts, across retries."""
        earlier = getattr(row, "earlier", 0)
        if not row.attempts + earlier:
            return self.state_badge(row)
        return rendering.detailed(self.state_badge(row), attempts_text(row, earlier))

    @admin.display(description=_("attempts"))
    def attempt_count(self, row: Any) -> str:
        return attempts_text(row, earlier_attempts([row]).get(row.pk, 0))


class KeyColumns(QueueAdmin):
    """What a row blocks, and what blocks it."""

    linked = ("key__exact",)

    @admin.display(description=_("key order"))
    def key_order(self, row: Any) -> SafeString:
        """Link to the rows that this one blocks, or to the row that blocks it."""
        if row.state == "waiting":
            return self._blocking_row(row)
        if not row.holds or row.key is None:
            return rendering.EMPTY
        count = self._same_key(row).filter(state="waiting")[: MOST_LISTED + 1].count()
        if not count:
            return format_html("{}", _("blocks nothing else"))
        exact = {f"{name}__exact": value for name, value in _key_of(row).items()}
        address = self.list_address(type(row), row, state__exact="waiting", **exact)
        text = ngettext("blocks %s other", "blocks %s others", count)
        return rendering.link(address, text % bounded_count(count))

    def _blocking_row(self, row: Any) -> SafeString:
        head = self._same_key(row).filter(holds=True).order_by("pk").first()
        if head is None:
            return rendering.EMPTY
        badge = rendering.progress_badge(head)
        return format_html("{} {} {}", _("blocked by"), self.row_link(head), badge)

    def _same_key(self, row: Any) -> QuerySet[Any]:
        # Order holds within one consumer. The index begins with context and partition.
        rows: QuerySet[Any] = type(row).objects.using(row._state.db).filter(**_key_of(row))
        return rows.filter(partition=row.partition)


def _key_of(row: Any) -> dict[str, str]:
    names = ("context", "consumer", "key") if hasattr(row, "consumer") else ("context", "key")
    return {name: getattr(row, name) for name in names}


class InstanceColumns(QueueAdmin):
    """The process instance that a row is for, if it is for one."""

    def process(self, row: Any) -> str | None:
        return process_of(row.consumer if hasattr(row, "consumer") else row.type)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        sections = super().get_fieldsets(request, obj)
        if obj is None or self.process(obj) is None:
            return sections
        (title, options), *others = sections
        fields = (*options["fields"], "instance")
        return [(title, {**options, "fields": fields}), *others]

    @admin.display(description=_("process"))
    def instance(self, row: Any) -> SafeString:
        process = self.process(row)
        found = find_instance(row._state.db, row.context, process, row.key) if process else None
        return self.row_link(found) if found else rendering.EMPTY


class MessageColumns(QueueAdmin):
    """What an event has wherever it is stored, and how a search finds it."""

    key_text = column(_("key"), rendering.line, "key")
    path = ""
    """The look-up that leads from a row to its message, such as "message__"; "": it is one."""
    search_fields: ClassVar[tuple[str, ...]] = ("message_id", "correlation_id", "key")
    record_time = message_column(_("recorded"), rendering.moment, "recorded_at")
    receive_time = message_column(_("received"), rendering.moment, "received_at")
    message_id_links = id_column(_("message id"), "message_id")
    correlation_links = id_column(_("correlation id"), "correlation_id")
    causation_links = id_column(_("causation id"), "causation_id")
    pretty_payload = text_column(_("payload"), "payload")
    pretty_headers = text_column(_("headers"), "headers")

    def message(self, row: Any) -> Any:
        return row

    def lookups(self, term: str) -> Iterable[Q]:
        """Look for a message id or correlation id, then for a key."""
        number = None if term.startswith("key:") else as_uuid(term)
        if number is not None:
            yield Q((f"{self.path}message_id", number)) | Q((f"{self.path}correlation_id", number))
        yield Q(key=term.removeprefix("key:"))

    @admin.display(description=_("type"))
    def event_type(self, row: Any) -> SafeString:
        message = self.message(row)
        return format_html("{} v{}", rendering.dotted_name(message.type), message.schema_version)


class QueuedColumns(ProgressColumns, KeyColumns, InstanceColumns, MessageColumns):
    """All columns of an outbox message or a delivery."""

    change_list = ProgressChangeList
