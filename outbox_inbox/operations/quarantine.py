"""Release and discard: what a person does with messages that were kept aside.

Both work under the lock of the context's intake partition, a chunk a transaction, so that no
receiver is at work meanwhile, and may be called again, and by two people at a time.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connections, transaction
from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL

from outbox_inbox.contexts import Context, get_context
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.inbox import quarantine, receiver
from outbox_inbox.models import QuarantinedMessage, QuarantineReason, QuarantineState, Queue
from outbox_inbox.queues.partitions import operator_lock
from outbox_inbox.queues.statements.dialects import dialect
from outbox_inbox.queues.wakeup import nudge
from outbox_inbox.transports import ReceivedMessage

from .selection import ASIDE, as_written

_CHUNK = 100  # rows judged in one transaction: each may have MAX_PAYLOAD bytes

Rows = QuerySet[QuarantinedMessage]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineSelection:
    """Which quarantined messages an operator means; what is left out does not restrict.

    Fields:
        context: label of the context that kept them aside.
        id: their id, as their sender calls it.
        reason: why they were kept aside.
        source: where they say they come from, with or without the slash before it.
        type: what they say they are, with the version (``shop.sold.v1``) or without.
    """

    context: str
    id: str | None = None
    reason: QuarantineReason | None = None
    source: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What came of judging messages again, or (dry run) would come of it.

    Fields:
        released: how many passed; they are in the inbox.
        kept: how many stay aside, by the reason that they have now.
        cut: how many of these were too long to be kept whole, and so can never pass.
    """

    released: int = 0
    kept: Mapping[QuarantineReason, int] = field(default_factory=dict)
    cut: int = 0

    @property
    def staying(self) -> int:
        """How many stay aside."""
        return sum(self.kept.values())


def release(selection: QuarantineSelection, *, dry_run: bool = False) -> Released:
    """Judge the selected messages again, with the code and the settings of now.

    What passes goes to the end of the inbox, behind what was received since, and is released;
    one whose id is there already, with the same payload, has come again meanwhile, and counts as
    released. What does not pass stays aside with the reason that it has now. Of a message that
    was cut the rest is gone: its sender has to send it again. Runs in transactions of its own.

    Arguments:
        dry_run: change nothing, and count.

    Raises:
        NotAContext: there is no such context.
    """
    context = get_context(selection.context)
    return _release(context, quarantined(selection), dry_run=dry_run)


def discard_quarantined(
    selection: QuarantineSelection, reason: str, *, dry_run: bool = False
) -> int:
    """Set the selected messages aside for good; return how many.

    Runs in transactions of its own.

    Arguments:
        reason: why, in the operator's words; it is kept with the message.
        dry_run: change nothing, and count.

    Raises:
        NotAContext: there is no such context.
        ValueError: the reason is empty.
    """
    context, text = get_context(selection.context), _reason(reason)
    chosen = quarantined(selection)
    return chosen.count() if dry_run else _discard(context, chosen, text)


def release_rows(chosen: Rows) -> Released:
    """Judge the rows of a query set again, of any contexts, as `release` does.

    Raises:
        NotAContext: a row's context does not exist any more.
        OutboxInboxError: a row's context has been moved to another database.
    """
    total = Released()
    for context, mine in _by_context(chosen):
        total = _sum(total, _release(context, mine))
    return total


def discard_quarantined_rows(chosen: Rows, reason: str) -> int:
    """Set the rows of a query set aside for good, as `discard_quarantined`; return how many.

    Raises:
        NotAContext, OutboxInboxError: as `release_rows`.
        ValueError: the reason is empty.
    """
    text = _reason(reason)
    return sum(_discard(context, mine, text) for context, mine in _by_context(chosen))


def quarantined(selection: QuarantineSelection) -> Rows:
    """Return the selected messages that are still aside, as a query set.

    Raises:
        NotAContext: there is no such context.
    """
    rows = _aside(get_context(selection.context)).filter(context=selection.context)
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


def _aside(context: Context) -> Rows:
    # With the constant of the partial index, so that finished rows are never looked at.
    rows = QuarantinedMessage.objects.using(context.database)
    return rows.filter(as_written(ASIDE))


def _by_context(chosen: Rows) -> Iterator[tuple[Context, Rows]]:
    for label in sorted(set(chosen.order_by().values_list("context", flat=True))):
        context = get_context(label)
        # Ids mean something in their own database only.
        if context.database != chosen.db:
            raise OutboxInboxError(
                f"these messages are in the database {chosen.db!r}, and the context "
                f"{context.label!r} lives on {context.database!r} now; select them there"
            )
        yield context, chosen.filter(context=label)


def _chunks(chosen: Rows) -> Iterator[list[int]]:
    # As they came, so that those of a key keep their order among themselves.
    ids = list(chosen.order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]


def _release(context: Context, chosen: Rows, *, dry_run: bool = False) -> Released:
    total = Released()
    for ids in _chunks(chosen):
        with operator_lock(context, Queue.INTAKE):
            # The state is asked for again, now that nobody else can change it.
            held = list(_aside(context).filter(pk__in=ids).order_by("pk"))
            total = _sum(total, _judge(context, held))
            if total.released:
                nudge(context, "dispatch")
            if dry_run:
                transaction.set_rollback(True, using=context.database)
    return total


def _judge(context: Context, rows: Sequence[QuarantinedMessage]) -> Released:
    """Let in what passes, and write beside the others why they do not."""
    whole: list[tuple[QuarantinedMessage, ReceivedMessage]] = []
    staying: list[QuarantinedMessage] = []
    for row in rows:
        message = quarantine.restore_message(row)
        if message is None:
            staying.append(row)
        else:
            whole.append((row, message))
    cut = len(staying)
    why = _admit(context, [message for _, message in whole])
    passed = [row.pk for row, message in whole if id(message) not in why]
    for row, message in whole:
        if id(message) in why:
            row.reason, row.error = why[id(message)]
            row.save(using=context.database, update_fields=["reason", "error"])
            staying.append(row)
    _finish(context, passed, state=QuarantineState.RELEASED)
    kept = Counter(QuarantineReason(row.reason) for row in staying)
    return Released(released=len(passed), kept=kept, cut=cut)


def _admit(
    context: Context, messages: Sequence[ReceivedMessage]
) -> dict[int, tuple[QuarantineReason, str]]:
    """Let in what passes; return why the others do not, by the identity of the message."""
    kept, ignored = receiver.admit(context, messages)
    why = {id(each.message): (each.reason, quarantine.cut_text(each.error)) for each in kept}
    for message in ignored:
        name = quarantine.attribute_text(message, "type")
        why[id(message)] = (
            QuarantineReason.UNKNOWN_TYPE,
            f"{context.label!r} does not subscribe to {name}",
        )
    return why


def _discard(context: Context, chosen: Rows, reason: str) -> int:
    count = 0
    for ids in _chunks(chosen):
        with operator_lock(context, Queue.INTAKE):
            count += _finish(context, ids, state=QuarantineState.DISCARDED, note=reason)
    return count


def _finish(context: Context, ids: Sequence[int], **changes: Any) -> int:
    now = RawSQL(dialect(connections[context.database]).now, ())
    return _aside(context).filter(pk__in=ids).update(finished_at=now, **changes)


def _reason(reason: str) -> str:
    text = reason.strip()
    if not text:
        raise ValueError("a reason must be given: whoever finds the message later wants to know")
    return text


def _sum(one: Released, other: Released) -> Released:
    return Released(
        released=one.released + other.released,
        kept=Counter(one.kept) + Counter(other.kept),
        cut=one.cut + other.cut,
    )
