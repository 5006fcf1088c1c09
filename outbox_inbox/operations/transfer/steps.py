"""The steps of a transfer, each of which may be stopped at any moment and repeated.

========  ====================================  ==================================================
step      new side                              old side
========  ====================================  ==================================================
begin     guarded, partitions paused, COPYING   works
copy      rows arrive                           works, and writes
close                                           paused, CLOSING; guarded, CLOSED
finish    equal to the old side, MOVED          refuses all writes
open      works, OPEN                           LEFT; goes on refusing writes
========  ====================================  ==================================================

At any moment one of the two sides at most can be written to: the old one is closed before the new
one is opened, and the databases themselves refuse.
"""

from collections.abc import Mapping, Sequence
from uuid import uuid4

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from outbox_inbox.conf import faults
from outbox_inbox.exceptions import TransferRefused
from outbox_inbox.models import StoredEvent, Transfer, TransferState, table
from outbox_inbox.operations.table_locks import lock_tables, retry_until_locked

from . import sequences
from .checkpoints import copy_checkpoints
from .comparing import Advance, equalise
from .guards import (
    CLOSED_MESSAGE,
    NOT_OPEN_MESSAGE,
    install_guards,
    remove_guards,
    unguarded_transaction,
)
from .partitions import QueuePartition, copy_partitions, pause_partitions, resume_partitions
from .route import NEW_SIDE_STATES, Route, set_transfer_state, transfer_row, write_transfer
from .tables import QUEUE_MODELS, Shifts, own_models, tables_of


def begin_transfer(route: Route) -> None:
    """Close the new side to all writers but this transfer, and reserve the ids there.

    Raises:
        TransferRefused: the context lives elsewhere, another transfer of it is under way, or the
            new side has rows of it that did not come from this one.
    """
    retry_until_locked(route.new, lambda connection: _begin(connection, route))
    faults.point("transfer.after_begin")


def _begin(connection: BaseDatabaseWrapper, route: Route) -> None:
    rows = Transfer.objects.using(route.new).select_for_update().filter(context=route.label)
    new_side = rows.first()
    if new_side is not None and new_side.state in NEW_SIDE_STATES:
        _check_continues(route, new_side)
        return
    _check_begins(route, new_side)
    install_guards(connection, route.label, NOT_OPEN_MESSAGE)
    _check_empty(route)
    shifts, ends = _reserve_ids(connection, route)
    left = new_side is not None  # processes with settings that old must still be refused later
    details = {"shifts": shifts, "ends": ends, "left": left}
    write_transfer(route, route.new, uuid4(), TransferState.COPYING, details)
    copy_partitions(route)


def _check_continues(route: Route, new_side: Transfer) -> None:
    if new_side.state == TransferState.ABORTING:
        raise TransferRefused(
            f"the transfer of {route.label!r} is being aborted: run the command with --abort to "
            "the end first"
        )
    old_side = transfer_row(route.label, route.old)
    if new_side.other != route.old or (
        new_side.state == TransferState.OPEN
        and (old_side is None or old_side.number != new_side.number)
    ):
        raise TransferRefused(
            f"{route.label!r} was, or is being, transferred to {route.new!r} from "
            f"{new_side.other!r}, and not from {route.old!r}"
        )


def _check_begins(route: Route, new_side: Transfer | None) -> None:
    old_side = transfer_row(route.label, route.old)
    if new_side is not None and new_side.state != TransferState.LEFT:
        raise TransferRefused(
            f"{route.label!r} is being transferred from {route.new!r} to {new_side.other!r}: run "
            "that transfer to its end, or abort it with --abort"
        )
    if old_side is not None and old_side.state == TransferState.LEFT:
        raise TransferRefused(
            f"{route.label!r} does not live on {route.old!r} any more: it was transferred to "
            f"{old_side.other!r}"
        )
    if old_side is not None and old_side.state != TransferState.OPEN:
        raise TransferRefused(
            f"another transfer of {route.label!r}, between {route.old!r} and {old_side.other!r}, "
            "is under way: run it to its end, or abort it with --abort"
        )


def _check_empty(route: Route) -> None:
    found = [each.name for each in tables_of(route.label, {}) if each.rows(route.new).exists()]
    if found:
        raise TransferRefused(
            f"the database {route.new!r} has rows of {route.label!r} that did not come from this "
            f"transfer, in {', '.join(found)}. Look at them, and delete them if they are not "
            "needed (--clean deletes what a transfer has left behind)"
        )


def _reserve_ids(connection: BaseDatabaseWrapper, route: Route) -> tuple[Shifts, Shifts]:
    """Reserve ids behind those of the other contexts on the new side.

    All ids of a table are shifted by the same number, so their order stays the same.
    """
    shifts, ends = {}, {}
    # Without the locks, another context could take ids between the two statements on a sequence.
    lock_tables(connection, QUEUE_MODELS)
    for model in QUEUE_MODELS:
        shift = sequences.last_id(connection, model)
        end = shift + sequences.last_id(connections[route.old], model) + sequences.RESERVE
        sequences.set_last_id(connection, model, end)
        shifts[table(model)], ends[table(model)] = shift, end
    return shifts, ends


def close_old_side(route: Route) -> None:
    """Stop the movers on the old side, then refuse all writes; wait for its open transactions."""
    new_side = route.new_side
    if new_side is None:
        raise TransferRefused(f"no transfer of {route.label!r} to {route.new!r} has begun")
    number = new_side.number
    with transaction.atomic(using=route.old):
        old_side = transfer_row(route.label, route.old)
        # After a crash the partitions are paused by this transfer already: what an operator had
        # paused before is only known from the row.
        if old_side is None or old_side.number != number:
            details = {"paused": pause_partitions(route, f"transferred to {route.new}")}
            write_transfer(route, route.old, number, TransferState.CLOSING, details)
    faults.point("transfer.after_pause")
    old_side = transfer_row(route.label, route.old)
    if old_side is None or old_side.state != TransferState.CLOSED:
        retry_until_locked(route.old, lambda connection: _guard_old_side(connection, route))
    faults.point("transfer.after_close")


def _guard_old_side(connection: BaseDatabaseWrapper, route: Route) -> None:
    install_guards(connection, route.label, CLOSED_MESSAGE)
    rows = Transfer.objects.using(route.old).filter(context=route.label)
    rows.filter(state=TransferState.CLOSING).update(
        state=TransferState.CLOSED, changed_at=timezone.now()
    )
    faults.point("transfer.before_close")


def finish_copy(route: Route, advance: Advance) -> int:
    """Make the new side equal to the old one, which is closed; return how many rows changed.

    One transaction on the new side.
    """
    with unguarded_transaction(route.label, route.new) as new_side:
        # Another process may have aborted or opened while this one waited for the row.
        if new_side.state not in (TransferState.COPYING, TransferState.MOVED):
            raise TransferRefused(f"the transfer of {route.label!r} has gone on meanwhile")
        changed = equalise(route.tables(), route.old, route.new, advance)
        _copy_sequences(route, new_side)
        copy_partitions(route)
        copy_checkpoints(route, new_side.details["shifts"][table(StoredEvent)])
        set_transfer_state(route.new, route.label, TransferState.MOVED)
        faults.point("transfer.before_finish")
    faults.point("transfer.after_finish")
    return changed


def _copy_sequences(route: Route, new_side: Transfer) -> None:
    old, new = connections[route.old], connections[route.new]
    for model in own_models(route.label):
        if model._meta.auto_field in model._meta.local_concrete_fields:
            sequences.set_last_id(new, model, sequences.last_id(old, model))
    for name, last in _last_used_ids(route, new_side).items():
        # Beyond the reserve, the shifted ids would collide with those of other contexts.
        if last > new_side.details["ends"][name]:
            raise TransferRefused(
                f"{name} has used up the ids that were reserved: abort the transfer with --abort, "
                "and begin again"
            )


def _last_used_ids(route: Route, new_side: Transfer) -> Mapping[str, int]:
    """Return for each table the last id on the new side that the old side has used up."""
    old, shifts = connections[route.old], new_side.details["shifts"]
    return {
        table(each): shifts[table(each)] + sequences.last_id(old, each) for each in QUEUE_MODELS
    }


def return_unused_ids(
    connection: BaseDatabaseWrapper, new_side: Transfer, used: Mapping[str, int]
) -> None:
    """Give back the reserved ids that were not used, unless a context has ids behind them."""
    lock_tables(connection, QUEUE_MODELS)
    for model in QUEUE_MODELS:
        if sequences.last_id(connection, model) == new_side.details["ends"][table(model)]:
            sequences.set_last_id(connection, model, used[table(model)])


def open_new_side(route: Route) -> None:
    """Let the context live on the new side."""
    old_side = route.old_side
    # Opened while the old side accepts writes, the context would live on both.
    if old_side is None or old_side.state not in (TransferState.CLOSED, TransferState.LEFT):
        raise TransferRefused(f"{route.label!r} is not closed on {route.old!r}")
    paused = old_side.details.get("paused", [])
    faults.point("transfer.before_open")
    retry_until_locked(route.new, lambda connection: _open(connection, route, paused))
    faults.point("transfer.after_open")
    set_transfer_state(route.old, route.label, TransferState.LEFT)


def _open(
    connection: BaseDatabaseWrapper, route: Route, still_paused: Sequence[QueuePartition]
) -> None:
    # Locked: an abort marks the same row, so one of the two wins and the other sees it.
    rows = Transfer.objects.using(route.new).select_for_update().filter(context=route.label)
    new_side = rows.get()
    if new_side.state == TransferState.OPEN:
        return
    if new_side.state != TransferState.MOVED:
        raise TransferRefused(
            f"the transfer of {route.label!r} is {new_side.state}: the new side cannot be opened"
        )
    remove_guards(connection, route.label)
    return_unused_ids(connection, new_side, _last_used_ids(route, new_side))
    resume_partitions(route.new, route.label, still_paused)
    set_transfer_state(route.new, route.label, TransferState.OPEN)
