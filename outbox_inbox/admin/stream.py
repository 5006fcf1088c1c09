"""The local streams, and the snapshots of their aggregates."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from outbox_inbox.contexts import contexts
from outbox_inbox.models import Snapshot, StoredEvent

from . import rendering
from .base import QueueAdmin
from .columns import IDS, TEXTS, MessageColumns, column, section
from .listing import ContextFilter, TypeFilter, as_uuid


class StreamColumns(QueueAdmin):
    """The stream of a row."""

    @admin.display(description=_("stream"))
    def stream_link(self, row: Any) -> SafeString:
        return rendering.link(self.stream_address(row), row.stream)

    def stream_address(self, row: Any) -> str:
        same = {"context__exact": row.context, "stream__exact": row.stream}
        return self.list_address(StoredEvent, row, **same)


@admin.register(StoredEvent)
class StoredEventAdmin(MessageColumns, StreamColumns):
    """Events of the local streams."""

    linked = ("stream__exact",)

    list_display = ("event_type", "stream_link", "version", "key_text", "context", "record_time")
    list_filter = (ContextFilter, TypeFilter)
    search_fields = ("message_id", "stream", "correlation_id", "key")
    search_help_text = _(
        "Search for a message id, a stream, a correlation id or a key, in full. "
        "Type key:… to search for a key only, or #… for a position."
    )
    fieldsets = (
        section(
            None,
            "event_type",
            ("context", "stream_link", "version", "position"),
            "key_text",
            *IDS,
            "record_time",
        ),
        *TEXTS,
    )

    def lookups(self, term: str) -> Iterable[Q]:
        """Look for a message id, then a stream, then a correlation id or a key."""
        if term.startswith("key:"):
            yield Q(key=term.removeprefix("key:"))
            return
        number = as_uuid(term)
        if number is not None:
            yield Q(message_id=number)
        yield _in_stream(term)
        yield Q(key=term) if number is None else Q(key=term) | Q(correlation_id=number)


@admin.register(Snapshot)
class SnapshotAdmin(StreamColumns):
    """Snapshots: the state of an aggregate at a version of its stream."""

    unlisted = ("payload",)
    list_display = ("stream_text", "version", "schema_version", "context", "take_time", "events")
    list_filter = (ContextFilter,)
    search_fields = ("stream",)
    search_help_text = _("Search for a stream, in full. Type #… for a row number.")
    fieldsets = (
        section(
            None,
            ("context", "stream_link", "version"),
            "event",
            ("schema_version", "layout"),
            "take_time",
        ),
        section(_("Payload"), "pretty_payload", wide=True),
    )
    stream_text = column(_("stream"), rendering.line, "stream")
    take_time = column(_("taken"), rendering.moment, "taken_at")
    pretty_payload = column(_("payload"), rendering.document, "payload")

    def lookups(self, term: str) -> Iterable[Q]:
        yield _in_stream(term)

    @admin.display(description=_("events"))
    def events(self, row: Any) -> SafeString:
        return rendering.link(self.stream_address(row), _("events"))

    @admin.display(description=_("last event"))
    def event(self, row: Any) -> SafeString:
        """Link to the last event that the snapshot contains."""
        return self.id_links(row.event_id, row)


def _in_stream(term: str) -> Q:
    # The index begins with the context: with all of them named, the database can use it.
    return Q(context__in=[context.label for context in contexts()], stream=term)
