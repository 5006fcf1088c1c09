"""Retry and discard from the admin: one log entry for each row that changed.

``outbox_inbox.operations`` does the work; here are the permissions, the question for a reason, the
log and the report.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import model_ngettext, quote
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox_inbox import operations
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import DeliveryState, OutboxState

from .base import QueueAdmin
from .databases import PARAMETER, chosen
from .listing import MOST

CHUNK = 500  # rows whose change is one transaction with its log entries
SAMPLE = 20  # rows shown beside the question for a reason
FINISHED = {OutboxState.SENT, OutboxState.DISCARDED, DeliveryState.DONE, DeliveryState.DISCARDED}
UNFINISHED = sorted({*OutboxState.values, *DeliveryState.values} - {*FINISHED})

Rows = QuerySet[Any]


class ReasonForm(forms.Form):
    """Why messages are discarded."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        help_text=gettext_lazy("It is kept with each of them and in its history."),
        max_length=500,
        error_messages={"required": gettext_lazy("Say why: whoever finds it later wants to know.")},
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60, "autofocus": True}),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """What is done to rows, and how it is reported.

    Fields:
        apply: the operation; it takes a query set.
        becomes: the states of a row that was changed.
        entry: what stands in the history of each row.
        done: the report, with room for "3 deliveries".
        nothing: the report when no row was changed.
    """

    apply: Callable[[Rows], object]
    becomes: frozenset[str]
    entry: str
    done: str
    nothing: str

    def mark(self, row: Any) -> tuple[Any, ...] | None:
        """Return what shows that the operation was carried out on a row, if it may have been."""
        if row.state not in self.becomes:
            return None
        return tuple(getattr(row, name, None) for name in ("state", "attempts", "due_at", "holds"))


class ActingAdmin(QueueAdmin):
    """Rows that a permitted user may act on."""

    def may(self, request: HttpRequest, verb: str) -> bool:
        """Tell whether the user has the permission for a verb, such as "retry"."""
        user: Any = request.user
        return bool(user.has_perm(f"{self.opts.app_label}.{verb}_{self.opts.model_name}"))

    def back(self, request: HttpRequest) -> HttpResponse | None:
        """Return to where the action was taken: the inspect page, or (None) the list."""
        if "inspect" not in request.POST:
            return None
        row = quote(request.POST.get(ACTION_CHECKBOX_NAME, ""))
        asked = request.GET.get(PARAMETER)
        same = {PARAMETER: asked} if asked else {}
        return HttpResponseRedirect(self.address(self.model, "change", row, **same))

    def counted(self, count: int) -> str:
        """Return a number of rows in words: "3 deliveries"."""
        return f"{count:,} {model_ngettext(self.opts, count)}"

    def tell(self, request: HttpRequest, done: int, some: str, none: str) -> None:
        """Report what was done, or that nothing was.

        Arguments:
            some: the report, with room for "3 deliveries".
            none: the report when no row was changed.
        """
        if done:
            self.message_user(request, some % self.counted(done), messages.SUCCESS)
        else:
            self.message_user(request, none, messages.WARNING)

    def carry_out(
        self,
        request: HttpRequest,
        rows: Rows,
        operation: Callable[[], object],
        mark: Callable[[Any], object],
        entry: str,
    ) -> int:
        """Run an operation and log the rows that it changed, in one transaction; return how many.

        Arguments:
            mark: what the operation leaves on a row; None: the row does not look like it.
            entry: what stands in the history of each row that changed.
        """
        before = {row.pk: mark(row) for row in rows}
        # By their keys: what has changed may not pass the filter any more that it was chosen by.
        same: Rows = self.model.objects.using(rows.db).filter(pk__in=before).defer(*self.unlisted)
        with transaction.atomic(using=rows.db):
            operation()
            changed = [row for row in same if mark(row) not in (None, before[row.pk])]
            if changed:
                user: Any = request.user
                entries: Any = LogEntry.objects
                entries.log_actions(user.pk, changed, CHANGE, entry)
        return len(changed)


class DiscardingAdmin(ActingAdmin):
    """Discard, after asking for the reason.

    Attributes:
        unfinished: the states in which a row may be acted on.
        discarding: the operation that discards the rows of a query set.
        order: in which they are acted on.
        explanation: what it means, for the question.
    """

    unfinished: ClassVar[Sequence[str]] = UNFINISHED
    discarding: ClassVar[str] = "discard_rows"
    # Heads last: a head that is discarded lets its followers go, and those that are selected as
    # well must be discarded before a worker sees them.
    order: ClassVar[Sequence[str]] = ("holds", "pk")
    explanation: ClassVar[Any] = gettext_lazy(
        "What is discarded is never sent or handled, and the later ones of its key go on without "
        "it. This cannot be undone."
    )

    def has_discard_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may discard."""
        return self.may(request, "discard")

    def buttons(self, request: HttpRequest, row: Any) -> list[tuple[str, str]]:
        """Return what this user may do to this row; a finished one stays as it is."""
        return super().buttons(request, row) if row.state in self.unfinished else []

    @admin.action(permissions=["discard"], description=gettext_lazy("Discard…"))
    def discard(self, request: HttpRequest, queryset: Rows) -> HttpResponse | None:
        """Set what is unfinished aside for good, after asking for the reason."""
        asked = "reason" in request.POST
        total = queryset.filter(state__in=self.unfinished).order_by()[: MOST + 1].count()
        form = ReasonForm(request.POST if asked else None)
        # Between question and answer more may have become dead, or have been solved.
        changed = asked and request.POST.get("total", str(total)) != str(total)
        if total and (changed or not form.is_valid()):
            return self._ask(request, queryset, form, total, changed=changed)
        reason = form.cleaned_data["reason"] if total else ""
        verb = Verb(
            apply=lambda rows: getattr(operations, self.discarding)(rows, reason),
            becomes=frozenset({OutboxState.DISCARDED}),
            entry=_("Discarded: %s") % reason,
            done=_("Discarded: %s."),
            nothing=_("Nothing was discarded: all of the selected are finished."),
        )
        self.solve(request, queryset, verb)
        return self.back(request)

    def _ask(
        self, request: HttpRequest, queryset: Rows, form: ReasonForm, total: int, *, changed: bool
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": _("Discard"),
            "opts": self.opts,
            "media": self.media,
            "form": form,
            "explanation": self.explanation,
            "changed": changed,
            "total": total,
            "what": self.counted(total)
            if total <= MOST
            else _("more than %s") % self.counted(MOST),
            "rows": queryset.filter(state__in=self.unfinished)[:SAMPLE],
            "more": total > SAMPLE,
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "checkbox": ACTION_CHECKBOX_NAME,
            "select_across": request.POST.get("select_across", "0"),
            "inspect": "inspect" in request.POST,
            "back": getattr(self.back(request), "url", request.get_full_path()),
        }
        return TemplateResponse(request, "admin/outbox_inbox/discard.html", context)

    def solve(self, request: HttpRequest, queryset: Rows, verb: Verb) -> None:
        """Apply a verb to the rows, chunk by chunk, with its log entries, and report."""
        done = 0
        try:
            for rows in self._chunks(queryset.using(chosen(request, self.model))):
                operation = partial(verb.apply, rows)
                done += self.carry_out(request, rows, operation, verb.mark, verb.entry)
        except OutboxInboxError as error:
            self.message_user(request, str(error), messages.ERROR)
            if not done:
                return
        self.tell(request, done, verb.done, verb.nothing)

    def _chunks(self, rows: Rows) -> Iterator[Rows]:
        chosen = rows.filter(state__in=self.unfinished).order_by(*self.order)
        ids = list(chosen.values_list("pk", flat=True))
        for start in range(0, len(ids), CHUNK):
            yield rows.filter(pk__in=ids[start : start + CHUNK])


class SolvingAdmin(DiscardingAdmin):
    """Retry and discard, for messages of the outbox and for deliveries."""

    actions = ("retry", "discard")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may retry."""
        return self.may(request, "retry")

    @admin.action(permissions=["retry"], description=gettext_lazy("Retry"))
    def retry(self, request: HttpRequest, queryset: Rows) -> HttpResponse | None:
        """Try what is dead or backing off again, at once and with all its attempts."""
        verb = Verb(
            apply=operations.retry_rows,
            becomes=frozenset({OutboxState.PENDING, DeliveryState.READY}),
            entry=_("Retried."),
            done=_("Retried: %s."),
            nothing=_("Nothing was retried: none of the selected is dead or backing off."),
        )
        self.solve(request, queryset, verb)
        return self.back(request)
