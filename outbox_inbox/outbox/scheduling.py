"""What ``cancel()`` does: a message for later is taken back, while no worker has touched it."""

from collections.abc import Collection
from uuid import UUID

from django.db import connections
from django.utils import timezone

from outbox_inbox.contexts import Context, get_context
from outbox_inbox.exceptions import HandlerError, InvalidEvent, NotInAtomicBlock
from outbox_inbox.models import OutboxMessage, OutboxState
from outbox_inbox.projections import applied_by
from outbox_inbox.queues.statements.moved import refusals_explained

_MAX_REASON = 500


def cancel(message_id: UUID, *, context: str | Context, reason: str = "cancelled") -> bool:
    """Discard a message in the transaction that is open: see `outbox_inbox.cancel`."""
    _check_arguments(message_id, reason)
    home = context if isinstance(context, Context) else get_context(context)
    if not connections[home.database].in_atomic_block:
        raise NotInAtomicBlock(
            f"cancel() was called outside transaction.atomic() of the database {home.database!r}, "
            f"where the context {home.label!r} keeps its outbox. The message must be discarded in the "
            "transaction of the state that makes it needless."
        )
    with refusals_explained():
        return withdraw_messages(home, [message_id], reason) > 0


def withdraw_messages(context: Context, ids: Collection[UUID | str], reason: str) -> int:
    """Discard scheduled messages that have not come due, without waiting for a lock; return how many."""
    # Not one that the relay is sending: it first takes its time away, by an UPDATE that it commits
    # together with the sending. Nor one that was tried: a transport that did not answer may have it.
    rows = OutboxMessage.objects.using(context.database).filter(
        context=context.label,
        message_id__in=ids,
        state=OutboxState.PENDING,
        due_at__isnull=False,
        attempts=0,
        holds=False,
    )
    # The relay may be about to send what it has locked: that is passed over, and not waited for.
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
        problems.append("reason is empty; the operator who finds the message later needs it")
    if len(reason) > _MAX_REASON:
        problems.append(f"reason has {len(reason)} characters; at most {_MAX_REASON} are stored")
    if "\0" in reason:
        problems.append("reason has a NUL, which databases do not store as text")
    if problems:
        raise InvalidEvent("cancel()", problems)
