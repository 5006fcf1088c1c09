"""Release and discard: the two ways in which an operator solves a quarantined message.

Both run under the lock of the context's intake partition, a chunk a transaction, so that no
receiver is active meanwhile. They may be called again, and by two operators at a time.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connections, transaction
from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL

from outbox_inbox.contexts import Context, get_context
from outbox_inbox.inbox import receiver
from outbox_inbox.models import (
    OperatorVerb,
    QuarantinedMessage,
    QuarantineReason,
    QuarantineState,
    Queue,
)
from outbox_inbox.queues.partitions import operator_lock
from outbox_inbox.queues.statements.dialects import dialect
from outbox_inbox.queues.statements.moved import refusals_explained
from outbox_inbox.queues.wakeup import nudge
from outbox_inbox.signals.escaping import visible
from outbox_inbox.transports import ReceivedMessage, quarantine

from .selection import QUARANTINED, checked_reason, raw_condition, rows_by_context
from .traces import keep_trace

_CHUNK = 100  # rows checked in one transaction: each may have MAX_PAYLOAD bytes

Rows = QuerySet[QuarantinedMessage]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineSelection:
    """Which quarantined messages an operator selects; a field that is None does not restrict.

    Fields:
        context: label of the context that received them; NotAContext is raised for an unknown one.
        id: the id that their sender gave them.
        reason: why they were quarantined.
        source: the source that they claim, with or without the slash before it.
        type: the type that they claim, with the version (``shop.sold.v1``) or without.
    """

    context: str
    id: str | None = None
    reason: QuarantineReason | None = None
    source: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """What a second check of messages came to, or (dry run) would come to.

    Fields:
        released: how many passed; they are in the inbox.
        kept: how many stay quarantined, by the reason that they have now.
        cut: how many of these were too long to be stored whole, and so can never pass.
    """

    released: int = 0
    kept: Mapping[QuarantineReason, int] = field(default_factory=dict)
    cut: int = 0

    def __add__(self, other: "Released") -> "Released":
        kept = Counter(self.kept) + Counter(other.kept)
        return Released(self.released + other.released, kept, self.cut + other.cut)

    @property
    def staying(self) -> int:
        """How many stay quarantined."""
        return sum(self.kept.values())


def release(
    selection: QuarantineSelection, *, dry_run: bool = False, by: str | None = None
) -> Released:
    """Check the selected messages again, with the present code and settings.

    A message that passes goes to the end of the inbox, behind those received since, and is
    released. One whose id is in the inbox already, with the same payload, was received again
    meanwhile, and counts as released. A message that does not pass stays quarantined, with the
    reason that it has now. A message that was cut is incomplete: its sender has to send it again.
    Runs in transactions of its own.

    Arguments:
        dry_run: change nothing, and count.
        by: the operator, for the history; None (default): user and host of this process.

    Raises:
        ContextMoved: the context is closed on this database.
    """
    context = get_context(selection.context)
    return _release(context, quarantined(selection), by, dry_run=dry_run)


def discard_quarantined(
    selection: QuarantineSelection, reason: str, *, dry_run: bool = False, by: str | None = None
) -> int:
    """Give the selected messages up for good; return how many.

    Runs in transactions of its own.

    Arguments:
        reason: why, in the operator's words; it is kept with the message.
        dry_run: change nothing, and count.
        by: the operator, for the history; None (default): user and host of this process.

    Raises:
        ValueError: the reason is empty.
        ContextMoved: the context is closed on this database.
    """
    text, chosen = checked_reason(reason), quarantined(selection)
    if dry_run:
        return chosen.count()
    return _discard(get_context(selection.context), chosen, text, by)


def release_rows(chosen: Rows, by: str | None = None) -> Released:
    """Check the rows of a query set again, as `release` does; raises as `rows_by_context`."""
    return sum((_release(*each, by) for each in rows_by_context(chosen)), Released())


def discard_quarantined_rows(chosen: Rows, reason: str, by: str | None = None) -> int:
    """Do as `discard_quarantined` with the rows of a query set; raises as `rows_by_context`, too."""
    text = checked_reason(reason)
    return sum(_discard(context, mine, text, by) for context, mine in rows_by_context(chosen))


def quarantined(selection: QuarantineSelection) -> Rows:
    """Return the selected messages that are still quarantined, as a query set."""
    rows = _quarantined_rows(get_context(selection.context)).filter(context=selection.context)
    if selection.id is not None:
        rows = rows.filter(message_id=selection.id)
    if selection.reason is not None:
        rows = rows.filter(reason=selection.reason)
    if selection.source is not None:
        label = selection.source.removeprefix("/")
        rows = rows.filter(source__in=[label, f"/{label}"])
    if selection.type is not None:
        rows = rows.filter(Q(type=selection.type) | Q(type__startswith=f"{selection.type}.v"))
    return rows


def _quarantined_rows(context: Context) -> Rows:
    # With the constant of the partial index: otherwise finished rows are read as well.
    rows = QuarantinedMessage.objects.using(context.database)
    return rows.filter(raw_condition(QUARANTINED))


def _chunks(chosen: Rows) -> Iterator[list[int]]:
    # In the order in which they were received, so that messages of a key keep their order.
    ids = list(chosen.order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]


def _release(context: Context, chosen: Rows, by: str | None, *, dry_run: bool = False) -> Released:
    total = Released()
    for ids in _chunks(chosen):
        with refusals_explained(), operator_lock(context, Queue.INTAKE):
            # Read again under the lock: before it another operator may have solved some of them.
            rows = list(_quarantined_rows(context).filter(pk__in=ids).order_by("pk"))
            total += _check_again(context, rows, by)
            if total.released:
                nudge(context, "dispatch")
            if dry_run:
                transaction.set_rollback(True, using=context.database)
    return total


def _check_again(context: Context, rows: Sequence[QuarantinedMessage], by: str | None) -> Released:
    """Admit the messages that pass, and store with each of the others why it does not."""
    messages = {row.pk: quarantine.restore_message(row) for row in rows}
    refused = _admit(context, [each for each in messages.values() if each is not None])
    passed: list[int] = []
    kept: Counter[QuarantineReason] = Counter()
    for row in rows:
        message = messages[row.pk]
        if message is not None and id(message) not in refused:
            passed.append(row.pk)
            continue
        if message is not None:
            row.reason, row.error = refused[id(message)]
            row.save(using=context.database, update_fields=["reason", "error"])
        kept[QuarantineReason(row.reason)] += 1
    keep_trace(context, _unsolved(context, passed), OperatorVerb.RELEASED, by)
    _finish(context, passed, state=QuarantineState.RELEASED)
    cut = sum(each is None for each in messages.values())
    return Released(released=len(passed), kept=kept, cut=cut)


def _admit(
    context: Context, messages: Sequence[ReceivedMessage]
) -> dict[int, tuple[QuarantineReason, str]]:
    """Admit the messages that pass; return the reasons of the others, by the message's identity."""
    kept, ignored = receiver.admit(context, messages)
    refused = {
        id(each.message): (each.reason, quarantine.cut_text(visible(each.error, None)))
        for each in kept
    }
    for message in ignored:
        name = quarantine.attribute_text(message, "type")
        refused[id(message)] = (
            QuarantineReason.UNKNOWN_TYPE,
            f"{context.label!r} does not subscribe to {visible(name)}",
        )
    return refused


def _discard(context: Context, chosen: Rows, reason: str, by: str | None) -> int:
    count = 0
    for ids in _chunks(chosen):
        with refusals_explained(), operator_lock(context, Queue.INTAKE):
            unsolved = _unsolved(context, ids)
            keep_trace(context, unsolved, OperatorVerb.DISCARDED, by, reason=reason)
            count += _finish(context, ids, state=QuarantineState.DISCARDED, note=reason)
    return count


def _finish(context: Context, ids: Sequence[int], **changes: Any) -> int:
    now = RawSQL(dialect(connections[context.database]).now, ())
    return _unsolved(context, ids).update(finished_at=now, **changes)


def _unsolved(context: Context, ids: Sequence[int]) -> Rows:
    return _quarantined_rows(context).filter(pk__in=ids)
