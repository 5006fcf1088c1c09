"""The columns that lists and inspect pages share: of a message, and of its progress."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from outbox_inbox.models import ProcessState

from . import rendering
from .base import QueueAdmin
from .databases import query
from .listing import IDLE_STATES, MOST, as_uuid
from .process_links import instance, process_of

TEXTS: tuple[tuple[Any, Any], ...] = (
    (_("Payload"), {"fields": ("pretty_payload",), "classes": ("oi-wide",)}),
    (_("Headers"), {"fields": ("pretty_headers",), "classes": ("oi-wide",)}),
)
"""The last sections of an inspect page."""

IDENTITY = ("identity_of_message", "correlation", "causation")
"""The ids of a message."""

PROGRESS = ("standing", "full_error", "attempts", "parking", "finished")
"""The first section of an inspect page."""


class ProgressColumns:
    """How far a message of the outbox or a delivery has come, and what went wrong."""

    @admin.display(description=_("state"))
    def standing(self, row: Any) -> SafeString:
        """Show the state, and when it is due if it is scheduled or backing off."""
        if row.due_at is None or row.state not in IDLE_STATES:
            return rendering.state(row.state, row.get_state_display())
        if row.attempts:
            state = rendering.state("resting", _("backing off"))
        elif rendering.ahead(row.due_at) > timedelta(0):
            state = rendering.state("scheduled", _("scheduled"))
        else:
            state = rendering.state(row.state, row.get_state_display())
        return format_html('{} <span class="oi-due">{}</span>', state, rendering.moment(row.due_at))

    @admin.display(description=_("state"))
    def progress(self, row: Any) -> SafeString:
        """Show the state with the number of attempts that have failed."""
        if not row.attempts:
            return self.standing(row)
        attempts = ngettext("%s attempt", "%s attempts", row.attempts) % row.attempts
        return format_html('{} <span class="oi-due">{}</span>', self.standing(row), attempts)

    @admin.display(description=_("finished"))
    def finished(self, row: Any) -> SafeString:
        """Show when it came to its end."""
        return rendering.moment(row.finished_at)

    @admin.display(description=_("error or reason"))
    def trouble(self, row: Any) -> str:
        """Show what went wrong last, or why it was discarded, in short."""
        return rendering.excerpt(row.error)

    @admin.display(description=_("error or reason"))
    def full_error(self, row: Any) -> SafeString:
        """Show what went wrong last, or why it was discarded, in full."""
        return rendering.preformatted(row.error) if row.error else rendering.NOTHING


class KeyColumns(QueueAdmin):
    """What waits for a row, and what it waits for."""

    @admin.display(description=_("order of its key"))
    def parking(self, row: Any) -> SafeString:
        """Link to the followers that wait behind this row, or to the head that it waits for."""
        if row.state == "waiting":
            return self._head(row)
        if not row.holds or row.key is None:
            return rendering.NOTHING
        same = {f"{name}__exact": value for name, value in _same_key(row).items()}
        followers = same | query(row)
        address = self.address(type(row), "changelist", state__exact="waiting", **followers)
        count = self._others(row).filter(state="waiting")[: MOST + 1].count()
        if not count:
            return format_html("{}", _("nothing waits behind it"))
        shown = f"{MOST:,}+" if count > MOST else f"{count:,}"
        return format_html('<a href="{}">{}</a>', address, _("%s wait behind it") % shown)

    def _head(self, row: Any) -> SafeString:
        head = self._others(row).filter(holds=True).order_by("pk").first()
        if head is None:
            return rendering.NOTHING
        link = format_html(
            '<a href="{}">{}</a>', self.address(type(row), "change", head.pk, **query(row)), head
        )
        state = rendering.state(head.state, head.get_state_display())
        return format_html("{} {} {}", _("waits behind"), link, state)

    def _others(self, row: Any) -> QuerySet[Any]:
        # A delivery of another consumer waits for nothing here; the partition is in the index.
        rows: QuerySet[Any] = type(row).objects.using(row._state.db).filter(**_same_key(row))
        return rows.filter(partition=row.partition)


def _same_key(row: Any) -> dict[str, str]:
    names = ("context", "consumer", "key") if hasattr(row, "consumer") else ("context", "key")
    return {name: getattr(row, name) for name in names}


class InstanceColumns(QueueAdmin):
    """Which instance of a process a row is for, if it is for one."""

    def process(self, row: Any) -> str | None:
        """Return the process that a row is for."""
        return process_of(row.consumer if hasattr(row, "consumer") else row.type)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the sections, with the instance in the first of them."""
        sections = super().get_fieldsets(request, obj)
        if obj is None or self.process(obj) is None:
            return sections
        (title, options), *others = sections
        fields = (*options["fields"], "instance")
        return [(title, {**options, "fields": fields}), *others]

    @admin.display(description=_("process"))
    def instance(self, row: Any) -> SafeString:
        """Link to the instance of the process."""
        process = self.process(row)
        found = process and instance(row._state.db, row.context, process, row.key)
        if not found:
            return rendering.NOTHING
        address = self.address(ProcessState, "change", found.pk, **query(row))
        return format_html('<a href="{}">{}</a>', address, found)


class MessageColumns(QueueAdmin):
    """What an event has wherever it is stored, and how it is found by it."""

    path = ""
    """The look-up that leads from a row to its message, such as "message__"; "": it is one."""
    search_fields: ClassVar[tuple[str, ...]] = ("message_id", "correlation_id", "key")

    def message(self, row: Any) -> Any:
        """Return the stored event that a row is about."""
        return row

    def lookups(self, term: str) -> Iterable[Q]:
        """Look for a message id or correlation id, else for a key."""
        number = None if term.startswith("key:") else as_uuid(term)
        if number is not None:
            yield Q((f"{self.path}message_id", number)) | Q((f"{self.path}correlation_id", number))
        yield Q(key=term.removeprefix("key:"))

    @admin.display(description=_("type"))
    def typed(self, row: Any) -> SafeString:
        """Show the name of the event's class with its version."""
        message = self.message(row)
        return format_html("{} v{}", rendering.name(message.type), message.schema_version)

    @admin.display(description=_("recorded"))
    def recorded(self, row: Any) -> SafeString:
        """Show when the event was recorded."""
        return rendering.moment(self.message(row).recorded_at)

    @admin.display(description=_("received"))
    def received(self, row: Any) -> SafeString:
        """Show when the message came into the inbox."""
        return rendering.moment(self.message(row).received_at)

    @admin.display(description=_("message id"))
    def identity_of_message(self, row: Any) -> SafeString:
        """Link to where the message is, or was before it went on."""
        return self.identity(self.message(row).message_id, row)

    @admin.display(description=_("correlation id"))
    def correlation(self, row: Any) -> SafeString:
        """Link to everything of the same conversation."""
        return self.identity(self.message(row).correlation_id, row)

    @admin.display(description=_("causation id"))
    def causation(self, row: Any) -> SafeString:
        """Link to the message that caused this one."""
        number = self.message(row).causation_id
        return self.identity(number, row) if number else rendering.NOTHING

    @admin.display(description=_("payload"))
    def pretty_payload(self, row: Any) -> SafeString:
        """Show the payload."""
        return rendering.document(self.message(row).payload)

    @admin.display(description=_("headers"))
    def pretty_headers(self, row: Any) -> SafeString:
        """Show the headers."""
        return rendering.document(self.message(row).headers)
