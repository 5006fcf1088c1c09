"""Abort: open the old side again, and empty the new one; and clean the old side afterwards.

The order of the steps is what keeps a context from being open on both sides, or on neither: the
new side is marked first, so that no other process can open it while the old one is reopened.
"""

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.aggregates import forget_snapshots
from outbox_inbox.conf import faults
from outbox_inbox.exceptions import TransferRefused
from outbox_inbox.models import Checkpoint, Partition, QueueLayout, Transfer, TransferState
from outbox_inbox.operations.table_locks import retry_until_locked
from outbox_inbox.queues.outcome import ignore

from . import partitions
from .comparing import Advance
from .guards import CLOSED_MESSAGE, install_guards, remove_guards, unguarded_transaction
from .route import NEW_SIDE_STATES, Route, set_transfer_state, transfer_row
from .steps import return_unused_ids


def return_to_old_side(route: Route) -> bool:
    """Open the old side again, and empty the new one; False: there was nothing to abort.

    May be stopped and repeated.

    Raises:
        TransferRefused: the context lives on the new side already.
    """
    new_side = _mark_aborting(route)
    old_side = transfer_row(route.label, route.old)
    closed = (
        old_side is not None
        and old_side.state in (TransferState.CLOSING, TransferState.CLOSED)
        and old_side.other == route.new
        and (new_side is None or new_side.number == old_side.number)
    )
    if closed:
        retry_until_locked(route.old, lambda connection: _reopen_old_side(connection, route))
        faults.point("transfer.after_abort")
    if new_side is not None:
        _delete_context_rows(route, route.new)
        retry_until_locked(route.new, lambda connection: _forget_new_side(connection, route))
    return closed or new_side is not None


def _mark_aborting(route: Route) -> Transfer | None:
    """Keep every process from opening the new side; return its row, if the transfer has one."""
    with transaction.atomic(using=route.new):
        # Locked: opening locks the same row, so one of the two wins and the other sees it.
        rows = Transfer.objects.using(route.new).select_for_update().filter(context=route.label)
        new_side = rows.first()
        if new_side is None or new_side.state not in NEW_SIDE_STATES or new_side.other != route.old:
            return None
        if new_side.state == TransferState.OPEN:
            raise TransferRefused(
                f"{route.label!r} lives on {route.new!r} already: the transfer cannot be aborted. "
                f"Transfer it to {route.old!r} instead, with --to {route.old} --from {route.new}"
            )
        set_transfer_state(route.new, route.label, TransferState.ABORTING)
        return new_side


def _reopen_old_side(connection: BaseDatabaseWrapper, route: Route) -> None:
    rows = Transfer.objects.using(route.old).filter(context=route.label)
    remove_guards(connection, route.label)
    partitions.resume_partitions(route.old, route.label, rows.get().details.get("paused", []))
    rows.delete()


def _forget_new_side(connection: BaseDatabaseWrapper, route: Route) -> None:
    rows = Transfer.objects.using(route.new).select_for_update().filter(context=route.label)
    if (new_side := rows.first()) is None:
        return
    return_unused_ids(connection, new_side, new_side.details["shifts"])
    if new_side.details["left"]:
        # The context lived here before: processes with settings that old must still be refused.
        install_guards(connection, route.label, CLOSED_MESSAGE)
        set_transfer_state(route.new, route.label, TransferState.LEFT)
        return
    for model in (Partition, QueueLayout):
        model.objects.using(route.new).filter(context=route.label).delete()
    remove_guards(connection, route.label)
    rows.delete()


def _delete_context_rows(route: Route, using: str, advance: Advance = ignore) -> int:
    """Delete the context's rows on a database; return how many."""
    tables = route.tables()
    removed = 0
    # Useless without their streams, and they may contain personal data that streams contained.
    forget_snapshots(route.label, using=using)
    for table in reversed([each for each in tables if not each.own]):
        for keys in table.key_pages(using):
            with unguarded_transaction(route.label, using):
                table.delete_rows(using, keys)
            removed += len(keys)
            advance(len(keys))
    with unguarded_transaction(route.label, using):
        Checkpoint.objects.using(using).filter(context=route.label).delete()
        # In one transaction: rows may refer to each other in any order, which COMMIT checks.
        for table in reversed([each for each in tables if each.own]):
            for keys in table.key_pages(using):
                table.delete_rows(using, keys)
                removed += len(keys)
                advance(len(keys))
    return removed


def delete_old_rows(route: Route, advance: Advance) -> int:
    """Delete what the context has left on its old database; the guards stay. Return how many rows.

    Raises:
        TransferRefused: the context does not live on the new side yet.
    """
    old_side = route.old_side
    if old_side is None or old_side.state != TransferState.LEFT:
        raise TransferRefused(f"{route.label!r} has not been transferred to {route.new!r} yet")
    return _delete_context_rows(route, route.old, advance)
