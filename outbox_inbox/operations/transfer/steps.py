"""The steps of a hand-over, each of which may be stopped at any moment and done again.

========  ====================================  ==================================================
step      new side                              old side
========  ====================================  ==================================================
begin     guarded, partitions paused, COPYING   works
copy      rows come in                          works, and writes
close                                           paused, CLOSING; guarded, CLOSED
finish    like the old side, MOVED              nobody can write
open      works, OPEN                           LEFT; whoever still writes here is refused
========  ====================================  ==================================================

One of the two sides at most can be written to at any moment, and never both: the old one is closed
before the new one is opened, and it is the databases that refuse.
"""

from collections.abc import Mapping
from uuid import UUID, uuid4

from django.db import connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from outbox_inbox.conf import faults
from outbox_inbox.exceptions import TransferRefused
from outbox_inbox.models import StoredEvent, Transfer, TransferState, table
from outbox_inbox.operations.table_locks import lock, patiently

from . import checkpoints, guards, partitions, sequences
from .comparing import Advance, equalise
from .route import NEW_SIDE, Route, row_of, set_state
from .tables import QUEUES, Shifts, model_of, own_models, tables_of
from .writing import writing


def begin(way: Route) -> None:
    """Close the new side to everybody but this hand-over, and decide on the ids there.

    Raises:
        TransferRefused: the context lives elsewhere, another hand-over of it is under way, or the
            new side has rows of it that did not come from this one.
    """
    patiently(way.new, lambda connection: _begin(connection, way))
    faults.point("transfer.after_begin")


def _begin(connection: BaseDatabaseWrapper, way: Route) -> None:
    here = Transfer.objects.using(way.new).select_for_update().filter(context=way.label).first()
    if here is not None and here.state in NEW_SIDE:
        _refuse_to_go_on(way, here)
        return
    _refuse_to_begin(way, here)
    guards.install(connection, way.label, guards.COMING)
    _refuse_rows(way)
    shifts, ends = _reserve(connection, way)
    left = here is not None  # it lived here before, and old processes must still be refused
    Transfer.objects.using(way.new).update_or_create(
        context=way.label,
        defaults={
            "number": uuid4(),
            "state": TransferState.COPYING,
            "other": way.old,
            "details": {"shifts": shifts, "ends": ends, "left": left},
            "changed_at": timezone.now(),
        },
    )
    partitions.repeat(way, f"being handed over from {way.old}")


def _refuse_to_go_on(way: Route, here: Transfer) -> None:
    if here.state == TransferState.ABORTING:
        raise TransferRefused(
            f"the hand-over of {way.label!r} is being taken back: "
            "run the command with --abort to the end first"
        )
    there = row_of(way.label, way.old)
    if here.other != way.old or (
        here.state == TransferState.OPEN and (there is None or there.number != here.number)
    ):
        raise TransferRefused(
            f"{way.label!r} was, or is being, handed over to {way.new!r} from {here.other!r}, and "
            f"not from {way.old!r}"
        )


def _refuse_to_begin(way: Route, here: Transfer | None) -> None:
    there = row_of(way.label, way.old)
    if here is not None and here.state != TransferState.LEFT:
        raise TransferRefused(
            f"{way.label!r} is being handed over from {way.new!r} to {here.other!r}: run that to "
            "its end, or take it back with --abort"
        )
    if there is not None and there.state == TransferState.LEFT:
        raise TransferRefused(
            f"{way.label!r} does not live on {way.old!r} any more: it went to {there.other!r}"
        )
    if there is not None and there.state != TransferState.OPEN:
        raise TransferRefused(
            f"another hand-over of {way.label!r}, between {way.old!r} and {there.other!r}, is "
            "under way: run it to its end, or take it back with --abort"
        )


def _refuse_rows(way: Route) -> None:
    found = [each.name for each in tables_of(way.label, {}) if each.rows(way.new).exists()]
    if found:
        raise TransferRefused(
            f"the database {way.new!r} has rows of {way.label!r} that did not come from this "
            f"hand-over, in {', '.join(found)}. Look at them, and delete them if nobody needs "
            "them (what a hand-over has left behind: --clean)"
        )


def _reserve(connection: BaseDatabaseWrapper, way: Route) -> tuple[Shifts, Shifts]:
    """Set ids aside behind those that other contexts have on the new side.

    All ids of a table are shifted by the same number, so their order stays what it is.
    """
    shifts, ends = {}, {}
    lock(connection, map(model_of, QUEUES))
    for model in map(model_of, QUEUES):
        shift = sequences.last(connection, model)
        end = shift + sequences.last(connections[way.old], model) + sequences.RESERVE
        sequences.set_last(connection, model, end)
        shifts[model._meta.db_table], ends[model._meta.db_table] = shift, end
    return shifts, ends


def close(way: Route) -> None:
    """Stop the movers on the old side, then refuse all writes; wait for what is under way there."""
    number = _number(way)
    why = f"handed over to {way.new}"
    with transaction.atomic(using=way.old):
        there = row_of(way.label, way.old)
        if there is None or there.number != number:
            before = partitions.pause_all(way, why)
            Transfer.objects.using(way.old).update_or_create(
                context=way.label,
                defaults={
                    "number": number,
                    "state": TransferState.CLOSING,
                    "other": way.new,
                    "details": {"paused": before},
                    "changed_at": timezone.now(),
                },
            )
    faults.point("transfer.after_pause")
    if row_of(way.label, way.old, TransferState.CLOSED) is None:
        patiently(way.old, lambda connection: _close(connection, way))
    faults.point("transfer.after_close")


def _close(connection: BaseDatabaseWrapper, way: Route) -> None:
    guards.install(connection, way.label, guards.LEAVING)
    rows = Transfer.objects.using(way.old).filter(context=way.label)
    rows.filter(state=TransferState.CLOSING).update(
        state=TransferState.CLOSED, changed_at=timezone.now()
    )
    faults.point("transfer.before_close")


def finish(way: Route, advance: Advance) -> int:
    """Make the new side like the old one, which nobody can change any more; return how much it was.

    One transaction on the new side.
    """
    with writing(way.label, way.new) as here:
        if here.state not in (TransferState.COPYING, TransferState.MOVED):
            raise TransferRefused(f"the hand-over of {way.label!r} has gone on meanwhile")
        changed = equalise(way.tables(), way.old, way.new, advance)
        _set_sequences(way, here)
        partitions.repeat(way, f"being handed over from {way.old}")
        checkpoints.repeat(way, here.details["shifts"][table(StoredEvent)])
        set_state(way.new, way.label, TransferState.MOVED)
        faults.point("transfer.before_finish")
    faults.point("transfer.after_finish")
    return changed


def _set_sequences(way: Route, here: Transfer) -> None:
    old, new = connections[way.old], connections[way.new]
    for model in filter(sequences.counts, own_models(way.label)):
        sequences.set_last(new, model, sequences.last(old, model))
    for model in map(model_of, QUEUES):
        if _used(way, here, model) > here.details["ends"][model._meta.db_table]:
            raise TransferRefused(
                f"{model._meta.db_table} has used up the ids that were set aside: take the "
                "hand-over back with --abort, and begin again"
            )


def _used(way: Route, here: Transfer, model: type[models.Model]) -> int:
    """Return the last id on the new side that the old side has used up."""
    shift: int = here.details["shifts"][model._meta.db_table]
    return shift + sequences.last(connections[way.old], model)


def return_unused_ids(
    connection: BaseDatabaseWrapper, here: Transfer, used: Mapping[str, int]
) -> None:
    """Give back the ids that were set aside and not used, unless somebody has gone beyond them."""
    lock(connection, map(model_of, QUEUES))
    for model in map(model_of, QUEUES):
        name = model._meta.db_table
        if sequences.last(connection, model) == here.details["ends"][name]:
            sequences.set_last(connection, model, used[name])


def open_(way: Route) -> None:
    """Let the context live on the new side."""
    there = way.there
    if there is None or there.state not in (TransferState.CLOSED, TransferState.LEFT):
        raise TransferRefused(f"{way.label!r} is not closed on {way.old!r}")
    faults.point("transfer.before_open")
    patiently(way.new, lambda connection: _open(connection, way, there))
    faults.point("transfer.after_open")
    set_state(way.old, way.label, TransferState.LEFT)


def _open(connection: BaseDatabaseWrapper, way: Route, there: Transfer) -> None:
    rows = Transfer.objects.using(way.new).select_for_update().filter(context=way.label)
    here = rows.get()
    if here.state == TransferState.OPEN:
        return
    if here.state != TransferState.MOVED:
        raise TransferRefused(
            f"the hand-over of {way.label!r} is {here.state}: it cannot be opened"
        )
    guards.remove(connection, way.label)
    used = {each._meta.db_table: _used(way, here, each) for each in map(model_of, QUEUES)}
    return_unused_ids(connection, here, used)
    partitions.resume(way.new, way.label, there.details.get("paused", []))
    set_state(way.new, way.label, TransferState.OPEN)


def _number(way: Route) -> UUID:
    here = way.here
    if here is None:
        raise TransferRefused(f"no hand-over of {way.label!r} to {way.new!r} has begun")
    return UUID(str(here.number))
