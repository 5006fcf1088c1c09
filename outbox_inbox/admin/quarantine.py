"""The quarantine: messages from outside that failed a check, exactly as they came."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import ClassVar

from django.contrib import admin, messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox_inbox import operations
from outbox_inbox.inbox import quarantine
from outbox_inbox.models import QuarantinedMessage, QuarantineState

from . import rendering, untrusted
from .actions import Change, DiscardAdmin, Rows, trace_of
from .columns import column
from .listing import ContextFilter, ReasonFilter, StateFilter


@admin.register(QuarantinedMessage)
class QuarantinedMessageAdmin(DiscardAdmin):
    """Quarantined messages."""

    unlisted = ("attributes", "data")
    actions = ("release", "discard")
    unfinished: ClassVar[Sequence[str]] = (QuarantineState.QUARANTINED,)
    discard_operation = "discard_quarantined_rows"
    order = ("pk",)
    explanation = gettext_lazy(
        "A discarded message is never handled, unless its sender sends it again and it passes the "
        "checks. This cannot be undone."
    )
    list_display = (
        "message_type", "state_badge", "reason_name", "error_excerpt", "context", "receive_time",
        "identifier",
    )  # fmt: skip
    list_filter = (StateFilter, ContextFilter, ReasonFilter)
    search_fields = ("message_id", "type", "source")
    search_help_text = gettext_lazy(
        "Search for an id, a type or a source, in full. Type #… for a row number."
    )
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "state_badge",
                    "reason_name",
                    "full_error",
                    "stored_size",
                    ("finish_time", "note"),
                )
            },
        ),
        (
            gettext_lazy("Message, as described by its sender"),
            {
                "fields": (
                    ("message_type", "message_source"),
                    "identifier",
                    ("context", "receive_time"),
                )
            },
        ),
        (gettext_lazy("Attributes"), {"fields": ("attribute_table",), "classes": ("oi-wide",)}),
        (gettext_lazy("Payload"), {"fields": ("payload",), "classes": ("oi-wide",)}),
    )
    message_type = column(gettext_lazy("type"), untrusted.type_name, "type")
    message_source = column(gettext_lazy("source"), untrusted.text_or_dash, "source")
    identifier = column(gettext_lazy("message id"), untrusted.text_or_dash, "message_id")
    receive_time = column(gettext_lazy("received"), rendering.moment, "received_at")
    finish_time = column(gettext_lazy("released or discarded"), rendering.moment, "finished_at")
    error_excerpt = column(gettext_lazy("error"), rendering.excerpt, "error")
    full_error = column(gettext_lazy("error"), rendering.preformatted, "error")
    attribute_table = column(gettext_lazy("attributes"), untrusted.attributes, "attributes")

    def lookups(self, term: str) -> Iterable[Q]:
        """Look for an id, then for a type or a source."""
        yield Q(message_id=term)
        yield Q(type=term) | Q(source=term)

    def has_release_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may release."""
        return self.has_permission_to(request, "release")

    @admin.action(permissions=["release"], description=gettext_lazy("Release"))
    def release(self, request: HttpRequest, queryset: Rows) -> HttpResponse | None:
        """Check messages again, and put those that pass into the inbox."""
        remaining: Counter[str] = Counter()

        def operation(rows: Rows) -> None:
            found = operations.release_rows(rows)
            remaining.update({str(reason.label): count for reason, count in found.kept.items()})

        change = Change(
            trace=trace_of(QuarantineState.RELEASED),
            entry=_("Released."),
            done=_("Released %s."),
            nothing=_("Nothing released."),
        )
        response = self.change_rows(request, self.batches(request, queryset, operation), change)
        if remaining:
            reasons = ", ".join(
                f"{count:,} {reason}" for reason, count in sorted(remaining.items())
            )
            self.message_user(request, _("Still quarantined: %s.") % reasons, messages.WARNING)
        return response

    @admin.display(description=gettext_lazy("state"))
    def state_badge(self, row: QuarantinedMessage) -> SafeString:
        """Show the state."""
        return rendering.badge(row.state, row.get_state_display())

    @admin.display(description=gettext_lazy("reason"))
    def reason_name(self, row: QuarantinedMessage) -> str:
        """Show why it was quarantined."""
        return row.get_reason_display()

    @admin.display(description=gettext_lazy("stored"))
    def stored_size(self, row: QuarantinedMessage) -> str:
        """Show how much of it is stored, and what follows if that is not all."""
        size = _("%s bytes") % f"{row.size:,}"
        if quarantine.restore_message(row) is not None:
            return size
        cut = row.size - len(row.data)
        if cut:
            lost = _("The last %s bytes of the payload are not stored.") % f"{cut:,}"
        else:
            lost = _("Some attributes are not stored.")
        hint = _("It cannot be released: ask its sender to send it again.")
        return f"{size}. {lost} {hint}"

    @admin.display(description=gettext_lazy("payload"))
    def payload(self, row: QuarantinedMessage) -> SafeString:
        """Show the payload."""
        return untrusted.payload(bytes(row.data), complete=row.complete)
