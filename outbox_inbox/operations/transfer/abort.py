"""Taking a hand-over back before it is opened, and removing what it left behind afterwards."""

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.aggregates import forget_snapshots
from outbox_inbox.conf import faults
from outbox_inbox.exceptions import TransferRefused
from outbox_inbox.models import Checkpoint, Partition, Transfer, TransferState
from outbox_inbox.operations.table_locks import patiently
from outbox_inbox.queues.outcome import ignore

from . import guards, partitions
from .comparing import Advance
from .route import NEW_SIDE, Route, row_of, set_state
from .steps import return_unused_ids
from .writing import writing


def abort_handover(way: Route) -> bool:
    """Open the old side again, and empty the new one; False: there was nothing to take back.

    May be stopped and repeated.

    Raises:
        TransferRefused: the context lives on the new side already.
    """
    here = _mark(way)
    there = row_of(way.label, way.old)
    closed = (
        there is not None
        and there.state in (TransferState.CLOSING, TransferState.CLOSED)
        and there.other == way.new
        and (here is None or here.number == there.number)
    )
    if closed:
        patiently(way.old, lambda connection: _reopen(connection, way))
        faults.point("transfer.after_abort")
    if here is not None:
        _empty(way, way.new)
        patiently(way.new, lambda connection: _forget(connection, way))
    return closed or here is not None


def _mark(way: Route) -> Transfer | None:
    """Keep everybody from opening the new side; return its row, if the hand-over has one."""
    with transaction.atomic(using=way.new):
        rows = Transfer.objects.using(way.new).select_for_update().filter(context=way.label)
        here = rows.first()
        if here is None or here.state not in NEW_SIDE or here.other != way.old:
            return None
        if here.state == TransferState.OPEN:
            raise TransferRefused(
                f"{way.label!r} lives on {way.new!r} already: it cannot be taken back. Hand it "
                f"over to {way.old!r} instead, with --to {way.old} --from {way.new}"
            )
        set_state(way.new, way.label, TransferState.ABORTING)
        return here


def _reopen(connection: BaseDatabaseWrapper, way: Route) -> None:
    rows = Transfer.objects.using(way.old).filter(context=way.label)
    guards.remove(connection, way.label)
    partitions.resume(way.old, way.label, rows.get().details.get("paused", []))
    rows.delete()


def _forget(connection: BaseDatabaseWrapper, way: Route) -> None:
    rows = Transfer.objects.using(way.new).select_for_update().filter(context=way.label)
    here = rows.first()
    if here is None:
        return
    return_unused_ids(connection, here, here.details["shifts"])
    if here.details["left"]:
        guards.install(connection, way.label, guards.LEAVING)
        set_state(way.new, way.label, TransferState.LEFT)
        return
    Partition.objects.using(way.new).filter(context=way.label).delete()
    guards.remove(connection, way.label)
    rows.delete()


def _empty(way: Route, using: str, advance: Advance = ignore) -> int:
    """Delete the context's rows on a database; those of the queues a transaction a chunk."""
    tables = way.tables()
    removed = 0
    # They are of no use without their streams, and may hold what these held.
    forget_snapshots(way.label, using=using)
    for table in reversed([each for each in tables if not each.own]):
        for keys in table.windows(using):
            with writing(way.label, using):
                table.delete(using, keys)
            removed += len(keys)
            advance(len(keys))
    with writing(way.label, using):
        Checkpoint.objects.using(using).filter(context=way.label).delete()
        # At once: their rows may refer to each other in any order, which only COMMIT looks at.
        for table in reversed([each for each in tables if each.own]):
            for keys in table.windows(using):
                table.delete(using, keys)
                removed += len(keys)
                advance(len(keys))
    return removed


def clean_old_side(way: Route, advance: Advance) -> int:
    """Delete what the context has left on its old database; the guard stays. Return how many rows.

    Raises:
        TransferRefused: it does not live on the new side yet.
    """
    there = way.there
    if there is None or there.state != TransferState.LEFT:
        raise TransferRefused(f"{way.label!r} has not been handed over to {way.new!r} yet")
    return _empty(way, way.old, advance)
