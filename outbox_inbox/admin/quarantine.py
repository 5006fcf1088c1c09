"""The quarantine in the admin: what came from outside and may not get in, as it came."""

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
from .actions import DiscardingAdmin, Rows, Verb
from .listing import ContextFilter, ReasonFilter, StateFilter


@admin.register(QuarantinedMessage)
class QuarantinedMessageAdmin(DiscardingAdmin):
    """Messages that were kept aside."""

    unlisted = ("attributes", "data")
    actions = ("release", "discard")
    unfinished: ClassVar[Sequence[str]] = (QuarantineState.QUARANTINED,)
    discarding = "discard_quarantined_rows"
    order = ("pk",)
    explanation = gettext_lazy(
        "What is discarded is never handled, unless it is sent again and passes. This cannot be "
        "undone."
    )
    list_display = ("named", "standing", "why", "trouble", "context", "came", "identifier")
    list_filter = (StateFilter, ContextFilter, ReasonFilter)
    search_fields = ("message_id", "type", "source")
    search_help_text = gettext_lazy("An id, a type or a source, in full; #… for a row.")
    fieldsets = (
        (None, {"fields": ("standing", "why", "full_error", "kept", ("finished", "note"))}),
        (
            gettext_lazy("Message, as its sender calls it"),
            {"fields": (("named", "origin"), "identifier", ("context", "came"))},
        ),
        (gettext_lazy("Attributes"), {"fields": ("table",), "classes": ("oi-wide",)}),
        (gettext_lazy("Payload"), {"fields": ("payload",), "classes": ("oi-wide",)}),
    )

    def lookups(self, term: str) -> Iterable[Q]:
        """Look for an id, else for a type or a source."""
        yield Q(message_id=term)
        yield Q(type=term) | Q(source=term)

    def has_release_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may release."""
        return self.may(request, "release")

    @admin.action(permissions=["release"], description=gettext_lazy("Release"))
    def release(self, request: HttpRequest, queryset: Rows) -> HttpResponse | None:
        """Judge messages again, and let into the inbox what passes."""
        stay: Counter[str] = Counter()

        def apply(rows: Rows) -> None:
            found = operations.release_rows(rows)
            stay.update({str(reason.label): count for reason, count in found.kept.items()})

        verb = Verb(
            apply=apply,
            becomes=frozenset({QuarantineState.RELEASED}),
            entry=_("Released."),
            done=_("Released: %s."),
            nothing=_("Nothing was released."),
        )
        self.solve(request, queryset, verb)
        if stay:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(stay.items()))
            self.message_user(request, _("Still aside: %s.") % reasons, messages.WARNING)
        return self.back(request)

    @admin.display(description=gettext_lazy("type"))
    def named(self, row: QuarantinedMessage) -> str:
        """Show the type, which may be missing."""
        return untrusted.line(row.type) or "-"

    @admin.display(description=gettext_lazy("source"))
    def origin(self, row: QuarantinedMessage) -> str:
        """Show where it says it comes from."""
        return untrusted.line(row.source) or "-"

    @admin.display(description=gettext_lazy("message id"))
    def identifier(self, row: QuarantinedMessage) -> str:
        """Show its id, which may be anything."""
        return untrusted.line(row.message_id) or "-"

    @admin.display(description=gettext_lazy("state"))
    def standing(self, row: QuarantinedMessage) -> SafeString:
        """Show the state."""
        return rendering.state(row.state, row.get_state_display())

    @admin.display(description=gettext_lazy("reason"))
    def why(self, row: QuarantinedMessage) -> str:
        """Show why it was kept aside."""
        return row.get_reason_display()

    @admin.display(description=gettext_lazy("received"))
    def came(self, row: QuarantinedMessage) -> SafeString:
        """Show when it came."""
        return rendering.moment(row.received_at)

    @admin.display(description=gettext_lazy("released or discarded"))
    def finished(self, row: QuarantinedMessage) -> SafeString:
        """Show when somebody solved it."""
        return rendering.moment(row.finished_at)

    @admin.display(description=gettext_lazy("error"))
    def trouble(self, row: QuarantinedMessage) -> str:
        """Show what is wrong with it, in short."""
        return rendering.excerpt(row.error)

    @admin.display(description=gettext_lazy("error"))
    def full_error(self, row: QuarantinedMessage) -> SafeString:
        """Show what is wrong with it."""
        return rendering.preformatted(row.error)

    @admin.display(description=gettext_lazy("kept"))
    def kept(self, row: QuarantinedMessage) -> str:
        """Show how much of it was kept, and what follows if that is not all."""
        size = _("%s bytes") % f"{row.size:,}"
        if quarantine.restore_message(row) is not None:
            return size
        gone = row.size - len(row.data)
        what = _("%s of them cut") % f"{gone:,}" if gone else _("attributes cut")
        hint = _("it cannot be released; have it sent again")
        return f"{size}, {what}: {hint}"

    @admin.display(description=gettext_lazy("attributes"))
    def table(self, row: QuarantinedMessage) -> SafeString:
        """Show all attributes."""
        return untrusted.attributes(row.attributes)

    @admin.display(description=gettext_lazy("payload"))
    def payload(self, row: QuarantinedMessage) -> SafeString:
        """Show the payload."""
        return untrusted.payload(bytes(row.data), complete=row.complete)
