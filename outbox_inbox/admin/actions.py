"""Retry and discard rows, and log who changed which.

``outbox_inbox.operations`` changes the rows. Here each change is one transaction with its log
entries: without that, a crash would leave changed rows of which the history says nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar, NamedTuple

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import model_ngettext, quote
from django.core.exceptions import BadRequest
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from outbox_inbox import operations
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import DeliveryState, OutboxState
from outbox_inbox.operations import rows_locked
from outbox_inbox.signals.escaping import visible, visible_lines

from . import rendering
from .base import QueueAdmin, is_permitted
from .databases import PARAMETER, chosen_database
from .listing import MOST_LISTED
from .operator_actions import TracedAdmin

CHUNK = 500  # rows whose change is one transaction with its log entries
_DIGITS = 19  # of a key that no database has
SAMPLE = 20  # rows shown on the confirmation page
UNFINISHED = sorted({*OutboxState.values, *DeliveryState.values} - {"sent", "done", "discarded"})

_MOST_OF_ERROR = 1_000  # characters

Rows = QuerySet[Any]
Batch = tuple[Rows, Callable[[], object]]
"""Rows, and the operation that changes them."""


class DiscardForm(forms.Form):
    """Why messages are discarded."""

    reason = forms.CharField(
        label=_("Reason"),
        help_text=_("The reason is stored with each message and in its history."),
        max_length=500,
        error_messages={"required": _("Enter a reason: the next operator will need to know why.")},
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60, "autofocus": True}),
    )


class Change(NamedTuple):
    """How a change of rows is recognised and reported.

    Fields:
        trace: what the change leaves on a row; None: the row does not look changed.
        entry: the entry in the history of each changed row.
        done: the report, with room for "3 deliveries".
        nothing: the report if no row was changed.
    """

    trace: Callable[[Any], object]
    entry: Any
    done: Any
    nothing: Any


def trace_of(*states: str) -> Callable[[Any], object]:
    """Return the trace of a change that sets rows to one of these states."""

    def trace(row: Any) -> tuple[Any, ...] | None:
        if row.state not in states:
            return None
        return tuple(getattr(row, name, None) for name in ("state", "attempts", "due_at", "holds"))

    return trace


def permission(verb: str) -> Callable[[Any, HttpRequest], bool]:
    """Return a check whether the user has the permission for a verb on the rows of a page."""

    def has_permission(page: Any, request: HttpRequest) -> bool:
        return is_permitted(request, verb, page.model)

    return has_permission


def operator_of(request: HttpRequest) -> str:
    """Return the name under which the operations note who changed a row."""
    user: Any = request.user
    return f"{user.get_username()} (admin)"


class OperatorAdmin(QueueAdmin):
    """Rows that a permitted user may change by actions."""

    def response_to(self, request: HttpRequest) -> HttpResponse | None:
        """Return the way back to where the action was taken: the inspect page, or (None) the list."""
        if "inspect" not in request.POST:
            return None
        row = quote(request.POST.get(ACTION_CHECKBOX_NAME, ""))
        asked = request.GET.get(PARAMETER)
        same = {PARAMETER: asked} if asked else {}
        return HttpResponseRedirect(self.address(self.model, "change", row, **same))

    def response_action(
        self, request: HttpRequest, queryset: Rows, *args: Any, **options: Any
    ) -> HttpResponse | None:
        """Run an action; refuse keys that no page has sent, which the database would refuse."""
        keys = request.POST.getlist(ACTION_CHECKBOX_NAME)
        if not all(key.isascii() and key.isdigit() and len(key) < _DIGITS for key in keys):
            raise BadRequest("a selected row has a key that is not a number")
        return super().response_action(request, queryset, *args, **options)

    def locked(self, rows: Rows) -> AbstractContextManager[None]:
        """Return a transaction in which nothing but its own operation changes the rows."""
        raise NotImplementedError

    def counted(self, count: int) -> str:
        """Return a number of rows in words: "3 deliveries"."""
        return f"{count:,} {model_ngettext(self.opts, count)}"

    def change_rows(
        self, request: HttpRequest, batches: Iterable[Batch], change: Change
    ) -> HttpResponse | None:
        """Change rows batch by batch, log each changed row, report, and return to the page."""
        done = 0
        try:
            for rows, operation in batches:
                done += self._change_batch(request, rows, operation, change)
        except OutboxInboxError as error:
            self.message_user(request, visible_lines(error, _MOST_OF_ERROR), messages.ERROR)
            if not done:
                return self.response_to(request)
        if done:
            self.message_user(request, change.done % self.counted(done), messages.SUCCESS)
        else:
            self.message_user(request, str(change.nothing), messages.WARNING)
        return self.response_to(request)

    def _change_batch(
        self, request: HttpRequest, rows: Rows, operation: Callable[[], object], change: Change
    ) -> int:
        keys = list(rows.values_list("pk", flat=True))
        # By their keys: a changed row may no longer pass the filter by which it was selected.
        same: Rows = self.model.objects.using(rows.db).filter(pk__in=keys).defer(*self.unlisted)
        with self.locked(same):
            # Under the lock: what another operator does at the same moment is not this one's change.
            before = {row.pk: change.trace(row) for row in same.all()}
            operation()
            changed = [row for row in same if change.trace(row) not in (None, before[row.pk])]
            if changed:
                user: Any = request.user
                entries: Any = LogEntry.objects
                entries.log_actions(user.pk, changed, CHANGE, str(change.entry))
        return len(changed)


class DiscardAdmin(TracedAdmin, OperatorAdmin):
    """Discard rows, after asking for the reason.

    Attributes:
        unfinished: the states in which a row may be changed.
        discard_operation: the operation that discards the rows of a query set.
        order: the order in which rows are changed.
        explanation: what discarding means, for the confirmation page.
    """

    unfinished: ClassVar[Sequence[str]] = UNFINISHED
    discard_operation: ClassVar[str] = "discard_rows"
    # Heads last: discarding a head unblocks its followers. Those that are selected as well must be
    # discarded before a worker takes them.
    order: ClassVar[Sequence[str]] = ("holds", "pk")
    explanation: ClassVar[Any] = _(
        "Discarded messages are never sent or handled. "
        "The later messages of the same key continue without them. "
        "This cannot be undone."
    )
    has_discard_permission = permission("discard")

    def buttons(self, request: HttpRequest, row: Any) -> list[tuple[str, str]]:
        return super().buttons(request, row) if row.state in self.unfinished else []

    def locked(self, rows: Rows) -> AbstractContextManager[None]:
        return rows_locked(rows)

    @admin.action(permissions=["discard"], description=_("Discard…"))
    def discard(self, request: HttpRequest, queryset: Rows) -> HttpResponse | None:
        """Discard unfinished rows for good, after asking for the reason."""
        answered = "reason" in request.POST
        total = queryset.filter(state__in=self.unfinished).order_by()[: MOST_LISTED + 1].count()
        form = DiscardForm(request.POST if answered else None)
        # Between question and answer, more rows may have died, or an operator may have retried some.
        changed = answered and request.POST.get("total", str(total)) != str(total)
        if total and (changed or not form.is_valid()):
            return self._confirmation(request, queryset, form, total, changed=changed)
        reason = form.cleaned_data["reason"] if total else ""
        nothing = _("Nothing discarded: all selected rows are already finished.")
        entry = _("Discarded: %s") % visible(reason, _MOST_OF_ERROR)
        change = Change(trace_of(OutboxState.DISCARDED), entry, _("Discarded %s."), nothing)
        discard_rows = getattr(operations, self.discard_operation)
        by = operator_of(request)
        batches = self.batches(request, queryset, lambda rows: discard_rows(rows, reason, by))
        return self.change_rows(request, batches, change)

    def _confirmation(
        self, request: HttpRequest, queryset: Rows, form: DiscardForm, total: int, *, changed: bool
    ) -> HttpResponse:
        counted = self.counted(min(total, MOST_LISTED))
        context = {
            **self.admin_site.each_context(request),
            "title": _("Discard"),
            "opts": self.opts,
            "media": self.media,
            "form": form,
            "explanation": self.explanation,
            "changed": changed,
            "total": total,
            "what": counted if total <= MOST_LISTED else _("more than %s") % counted,
            "rows": [
                (row, rendering.progress_badge(row), rendering.line(getattr(row, "key", None)))
                for row in queryset.filter(state__in=self.unfinished)[:SAMPLE]
            ],
            "more": total > SAMPLE,
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "checkbox": ACTION_CHECKBOX_NAME,
            "select_across": request.POST.get("select_across", "0"),
            "inspect": "inspect" in request.POST,
            "back": getattr(self.response_to(request), "url", request.get_full_path()),
        }
        return TemplateResponse(request, "admin/outbox_inbox/discard.html", context)

    def batches(
        self, request: HttpRequest, queryset: Rows, operation: Callable[[Rows], object]
    ) -> Iterator[Batch]:
        """Yield the unfinished rows in chunks, with the operation on each."""
        rows = queryset.using(chosen_database(request, self.model))
        unfinished = rows.filter(state__in=self.unfinished).order_by(*self.order)
        ids = list(unfinished.values_list("pk", flat=True))
        for start in range(0, len(ids), CHUNK):
            chunk = rows.filter(pk__in=ids[start : start + CHUNK])
            yield chunk, partial(operation, chunk)


class DeadLetterAdmin(DiscardAdmin):
    """Retry and discard, for messages of the outbox and for deliveries."""

    actions = ("retry", "discard")
    has_retry_permission = permission("retry")

    @admin.action(permissions=["retry"], description=_("Retry"))
    def retry(self, request: HttpRequest, queryset: Rows) -> HttpResponse | None:
        """Retry rows that are dead or backing off, at once and with all their attempts."""
        nothing = _("Nothing retried: none of the selected rows is dead or backing off.")
        trace = trace_of(OutboxState.PENDING, DeliveryState.READY)
        change = Change(trace, _("Retried."), _("Retried %s."), nothing)
        by = operator_of(request)
        batches = self.batches(request, queryset, lambda rows: operations.retry_rows(rows, by))
        return self.change_rows(request, batches, change)
