"""The local streams in the admin, and the snapshots of what they have come to."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from outbox_inbox.contexts import contexts
from outbox_inbox.models import Snapshot, StoredEvent

from . import rendering
from .base import QueueAdmin
from .columns import IDENTITY, TEXTS, MessageColumns
from .databases import query
from .listing import ContextFilter, TypeFilter, as_uuid


class StreamColumns(QueueAdmin):
    """Which stream a row belongs to."""

    @admin.display(description=_("stream"))
    def stream_link(self, row: Any) -> SafeString:
        """Link to all events of the stream."""
        return format_html('<a href="{}">{}</a>', self.stream_address(row), row.stream)

    def stream_address(self, row: Any) -> str:
        """Return the address of the events of a row's stream."""
        return self.address(
            StoredEvent,
            "changelist",
            context__exact=row.context,
            stream__exact=row.stream,
            **query(row),
        )


@admin.register(StoredEvent)
class StoredEventAdmin(MessageColumns, StreamColumns):
    """Events of the local streams."""

    list_display = ("typed", "stream_link", "version", "key", "context", "recorded")
    list_filter = (ContextFilter, TypeFilter)
    search_fields = ("message_id", "stream", "correlation_id", "key")
    search_help_text = _(
        "A message id, a stream, a correlation id or a key, in full; key:… for a key only; "
        "#… for a position."
    )
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "typed",
                    ("context", "stream_link", "version", "position"),
                    "key",
                    *IDENTITY,
                    "recorded",
                )
            },
        ),
        *TEXTS,
    )

    def lookups(self, term: str) -> Iterable[Q]:
        """Look for a message id, else a stream, else a correlation id or a key."""
        if term.startswith("key:"):
            yield Q(key=term.removeprefix("key:"))
            return
        number = as_uuid(term)
        if number is not None:
            yield Q(message_id=number)
        # The index begins with the context: naming all of them lets it be used.
        yield Q(context__in=[context.label for context in contexts()], stream=term)
        yield Q(key=term) if number is None else Q(key=term) | Q(correlation_id=number)


@admin.register(Snapshot)
class SnapshotAdmin(StreamColumns):
    """What aggregates had come to at a version of their streams."""

    unlisted = ("payload",)
    list_display = ("stream", "version", "schema_version", "context", "taken", "events")
    list_filter = (ContextFilter,)
    search_fields = ("stream",)
    search_help_text = _("A stream, in full; #… for a row.")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("context", "stream_link", "version"),
                    "event",
                    ("schema_version", "layout"),
                    "taken",
                )
            },
        ),
        (_("Payload"), {"fields": ("pretty_payload",), "classes": ("oi-wide",)}),
    )

    def lookups(self, term: str) -> Iterable[Q]:
        """Look for a stream."""
        yield Q(context__in=[context.label for context in contexts()], stream=term)

    @admin.display(description=_("events"))
    def events(self, row: Any) -> SafeString:
        """Link to all events of the stream."""
        return format_html('<a href="{}">{}</a>', self.stream_address(row), _("events"))

    @admin.display(description=_("last event in it"))
    def event(self, row: Any) -> SafeString:
        """Link to the event that it ends with."""
        return self.identity(row.event_id, row)

    @admin.display(description=_("taken"))
    def taken(self, row: Any) -> SafeString:
        """Show when it was taken."""
        return rendering.moment(row.taken_at)

    @admin.display(description=_("payload"))
    def pretty_payload(self, row: Any) -> SafeString:
        """Show the state."""
        return rendering.document(row.payload)
