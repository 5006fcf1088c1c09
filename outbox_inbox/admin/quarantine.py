"""The quarantine: messages from outside that failed a check, exactly as they came."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import ClassVar

from django.contrib import admin, messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from outbox_inbox import operations
from outbox_inbox.models import QuarantinedMessage, QuarantineState
from outbox_inbox.transports import quarantine

from . import rendering, untrusted
from .actions import Change, DiscardAdmin, Rows, operator_of, permission, trace_of
from .columns import column, section
from .listing import ContextFilter, ReasonFilter, StateFilter


@admin.register(QuarantinedMessage)
class QuarantinedMessageAdmin(DiscardAdmin):
    """Quarantined messages."""

    unlisted = ("attributes", "data")
    actions = ("release", "discard")
    unfinished: ClassVar[Sequence[str]] = (QuarantineState.QUARANTINED,)
    discard_operation = "discard_quarantined_rows"
    order = ("pk",)
    explanation = _(
        "A discarded message is never handled, unless its sender sends it again and it passes the "
        "checks. This cannot be undone."
    )
    list_display = (
        "message_type", "state_badge", "reason_name", "error_excerpt", "context", "receive_time",
        "identifier",
    )  # fmt: skip
    list_filter = (StateFilter, ContextFilter, ReasonFilter)
    search_fields = ("message_id", "type", "source")
    search_help_text = _("Search for an id, a type or a source, in full. Type #… for a row number.")
    fieldsets = (
        section(
            None,
            "state_badge",
            "reason_name",
            "full_error",
            "stored_size",
            ("finish_time", "note_text"),
        ),
        section(
            _("Message, as described by its sender"),
            ("message_type", "message_source"),
            "identifier",
            ("context", "receive_time"),
        ),
        section(_("Attributes"), "attribute_table", wide=True),
        section(_("Payload"), "payload", wide=True),
    )
    message_type = column(_("type"), untrusted.type_name, "type")
    message_source = column(_("source"), untrusted.text_or_dash, "source")
    identifier = column(_("message id"), untrusted.text_or_dash, "message_id")
    receive_time = column(_("received"), rendering.moment, "received_at")
    note_text = column(_("reason"), rendering.line, "note")
    finish_time = column(_("released or discarded"), rendering.moment, "finished_at")
    error_excerpt = column(_("error"), rendering.excerpt, "error")
    full_error = column(_("error"), rendering.preformatted, "error")
    has_release_permission = permission("release")
    attribute_table = column(_("attributes"), untrusted.attributes, "attributes")

    def lookups(self, term: str) -> Iterable[Q]:
        """Look for an id, then for a type or a source."""
        yield Q(message_id=term)
        yield Q(type=term) | Q(source=term)

    @admin.action(permissions=["release"], description=_("Release"))
    def release(self, request: HttpRequest, queryset: Rows) -> HttpResponse | None:
        """Check messages again, and put those that pass into the inbox."""
        remaining: Counter[str] = Counter()

        def operation(rows: Rows) -> None:
            found = operations.release_rows(rows, operator_of(request))
            remaining.update({str(reason.label): count for reason, count in found.kept.items()})

        trace = trace_of(QuarantineState.RELEASED)
        change = Change(trace, _("Released."), _("Released %s."), _("Nothing released."))
        response = self.change_rows(request, self.batches(request, queryset, operation), change)
        if remaining:
            found = (f"{count:,} {reason}" for reason, count in sorted(remaining.items()))
            text = _("Still quarantined: %s.") % ", ".join(found)
            self.message_user(request, text, messages.WARNING)
        return response

    @admin.display(description=_("state"))
    def state_badge(self, row: QuarantinedMessage) -> SafeString:
        return rendering.state_badge(row)

    @admin.display(description=_("reason"))
    def reason_name(self, row: QuarantinedMessage) -> str:
        return row.get_reason_display()

    @admin.display(description=_("stored"))
    def stored_size(self, row: QuarantinedMessage) -> str:
        """Show how much of it is stored, and what follows if that is not all."""
        size = _("%s bytes") % f"{row.size:,}"
        if quarantine.restore_message(row) is not None:
            return size
        cut = row.size - len(row.data)
        payload = _("The last %s bytes of the payload are not stored.") % f"{cut:,}"
        lost = payload if cut else _("Some attributes are not stored.")
        hint = _("It cannot be released: ask its sender to send it again.")
        return f"{size}. {lost} {hint}"

    @admin.display(description=_("payload"))
    def payload(self, row: QuarantinedMessage) -> SafeString:
        return untrusted.payload(bytes(row.data), complete=row.complete)
