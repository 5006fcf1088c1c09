"""What was recorded for later (``record(at=...)``): take it back while it is still waiting."""

from collections.abc import Collection
from uuid import UUID

from django.db import connections
from django.utils import timezone

from outbox_inbox.contexts import Context, get_context
from outbox_inbox.exceptions import HandlerError, InvalidEvent, NotInAtomicBlock
from outbox_inbox.models import OutboxMessage, OutboxState
from outbox_inbox.projections import applied_by
from outbox_inbox.queues.statements.moved import explained

_MAX_REASON = 500


def cancel_message(message_id: UUID, context: str | Context, reason: str) -> bool:
    """Do what `outbox_inbox.cancel` says."""
    _check_arguments(message_id, reason)
    owner = context if isinstance(context, Context) else get_context(context)
    if not connections[owner.database].in_atomic_block:
        raise NotInAtomicBlock(
            f"cancel() was called outside transaction.atomic() of the database {owner.database!r}, "
            f"where the context {owner.label!r} keeps its outbox. That a message is not sent and the "
            "state that makes it needless must be committed together."
        )
    with explained():
        return withdraw(owner, [message_id], reason) > 0


def withdraw(context: Context, ids: Collection[UUID | str], reason: str) -> int:
    """Set scheduled messages aside that have not come due; return how many.

    It never waits: what the relay or an operator has locked goes its way. A message that is being
    sent is not among them: the relay takes its time away first, by an UPDATE that it commits
    together with the sending. Nor is one that was tried: a transport that did not answer may have
    it all the same.
    """
    rows = OutboxMessage.objects.using(context.database).filter(
        context=context.label,
        message_id__in=ids,
        state=OutboxState.PENDING,
        due_at__isnull=False,
        attempts=0,
        holds=False,
    )
    found = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))
    return rows.filter(pk__in=found).update(
        state=OutboxState.DISCARDED, finished_at=timezone.now(), error=reason
    )


def _check_arguments(message_id: object, reason: str) -> None:
    if applied_by.get() is not None:
        raise HandlerError(
            f"the projection {applied_by.get()} called cancel(): a read model decides nothing. Use a "
            "handler, or a process"
        )
    problems = []
    if not isinstance(message_id, UUID):
        problems.append(f"message_id must be a UUID, not {message_id!r}")
    if not reason.strip():
        problems.append("reason is empty; whoever finds the message later wants to know")
    if len(reason) > _MAX_REASON:
        problems.append(f"reason has {len(reason)} characters; at most {_MAX_REASON} are kept")
    if "\0" in reason:
        problems.append("reason has a NUL, which no database stores as text")
    if problems:
        raise InvalidEvent("cancel()", problems)
