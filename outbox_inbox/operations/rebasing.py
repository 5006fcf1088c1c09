"""Rebase: tell subscriptions by the transaction ids of this server what they have handled.

A checkpoint on PostgreSQL is a snapshot, and a snapshot is made of transaction ids, which mean
nothing on another server: after a dump was restored, or in a context that was handed over. What a
checkpoint has not handled is known event by event, though. These events get ids that no transaction
can have any more, since they are those of the time when the server was made, one for each set of
subscriptions that lack them; and the new snapshots have seen all ids but these.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import Checkpoint, StoredEvent
from outbox_inbox.queues.statements import rebasing
from outbox_inbox.queues.statements.dialects import dialect_class

from .table_locks import lock, patiently

_HANDLED = 3  # the first id there is, and the one that all handled events may have
_FIRST, _END = 4, 500  # ids below are given out while a server is made


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebased:
    """What happened to one subscription.

    Fields:
        context: label of the context.
        subscription: its name.
        left: how many events it has still to handle: as many as before.
    """

    context: str
    subscription: str
    left: int


def rebase(chosen: Iterable[Context] | None = None, *, dry_run: bool = False) -> list[Rebased]:
    """Rebase the checkpoints of contexts whose database was restored from a dump.

    One transaction a context, which waits for all who write to the stream or read on in it. Call it before anything
    is recorded on the restored database; on one that is at home it changes nothing that matters.
    SQLite counts positions, which mean the same everywhere: nothing is done there.

    Arguments:
        chosen: which contexts; None (default) means all.
        dry_run: change nothing, and count.

    Raises:
        OutboxInboxError: a transaction that has written to the stream stays open for a minute.
    """
    wanted = contexts() if chosen is None else tuple(chosen)
    return [each for context in wanted for each in _rebase(context, dry_run=dry_run)]


def _rebase(context: Context, *, dry_run: bool) -> list[Rebased]:
    if not dialect_class(connections[context.database]).has_snapshots:
        return []

    def work(connection: BaseDatabaseWrapper) -> list[Rebased]:
        with transaction.atomic(using=context.database):
            lock(connection, [Checkpoint, StoredEvent])
            left = unhandled(context.label, context.database)
            if not dry_run:
                rebasing.mark_events_handled(connection, context.label, _HANDLED)
                apply(connection, context.label, left)
        return [
            Rebased(context=context.label, subscription=name, left=len(positions))
            for name, positions in left.items()
        ]

    return patiently(context.database, work)


def unhandled(label: str, using: str) -> dict[str, list[int]]:
    """Return for each subscription of a context the positions that it has still to handle.

    Meaningful where nobody can record or be at work on a subscription.
    """
    rows = Checkpoint.objects.using(using).filter(context=label).order_by("subscription")
    names = list(rows.values_list("subscription", flat=True))
    return {name: rebasing.unhandled_positions(connections[using], label, name) for name in names}


def apply(connection: BaseDatabaseWrapper, label: str, left: Mapping[str, Sequence[int]]) -> None:
    """Let checkpoints have handled all events but these, by the ids of this server.

    In the open transaction, in which nobody else can write to the context's stream.

    Raises:
        OutboxInboxError: the subscriptions lack events in too many different ways.
    """
    ids = _group(connection, label, left)
    done = {name: [number for lacking, number in ids.items() if name in lacking] for name in left}
    for name, numbers in done.items():
        rebasing.rebase_checkpoint(connection, label, name, numbers)


def _group(
    connection: BaseDatabaseWrapper, label: str, left: Mapping[str, Sequence[int]]
) -> dict[frozenset[str], int]:
    """Give one id to all events that the same subscriptions lack; return the ids by these."""
    lacking: dict[int, set[str]] = defaultdict(set)
    for name, missed in left.items():
        for position in missed:
            lacking[position].add(name)
    groups: dict[frozenset[str], list[int]] = defaultdict(list)
    for position, lack_it in lacking.items():
        groups[frozenset(lack_it)].append(position)
    if len(groups) > _END - _FIRST:
        raise OutboxInboxError(
            f"the {len(left)} subscriptions of {label!r} lack events in {len(groups)} different "
            "ways: let some of them catch up first"
        )
    ids = dict(zip(groups, range(_FIRST, _END), strict=False))
    for names, positions in groups.items():
        rebasing.mark_events_unhandled(connection, sorted(positions), ids[names])
    return ids
