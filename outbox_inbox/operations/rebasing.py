"""Rebase: write checkpoints anew, with the transaction ids of this server.

A checkpoint on PostgreSQL is a snapshot, which consists of transaction ids. After a dump is
restored on another server, or a context is transferred, these ids mean nothing: events would be
lost or handled twice. But which events a checkpoint has not handled is known event by event. Each
set of subscriptions that lack the same events gives these events an id that no transaction can
have any more, since it was used when the server was created; the new snapshots have seen all ids
but these.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import Checkpoint, StoredEvent
from outbox_inbox.queues.statements.catch_up import CheckpointProgress
from outbox_inbox.queues.statements.checkpoints import was_copied
from outbox_inbox.queues.statements.dialects import dialect_class
from outbox_inbox.queues.statements.moved import refusals_explained
from outbox_inbox.queues.statements.rebasing import (
    mark_events_handled,
    mark_events_unhandled,
    rebase_checkpoint,
    unhandled_positions,
)
from outbox_inbox.streams.subscriptions import copied_text

from .table_locks import lock_tables, retry_until_locked

_HANDLED = 3  # the first transaction id there is: handled events may all have it
_FIRST, _END = 4, 500  # ids below are used up while a server is created


@dataclass(frozen=True, slots=True)
class Rebased:
    """What happened to one subscription of a context.

    Fields:
        unhandled: how many events it has still to handle: as many as before.
    """

    context: str
    subscription: str
    unhandled: int


def rebase(chosen: Iterable[Context] | None = None, *, dry_run: bool = False) -> list[Rebased]:
    """Rebase the checkpoints of contexts whose database was restored from a dump.

    One transaction a context, which waits for the transactions that write to the stream or handle
    its events. Call it before anything is recorded on the restored database; on the server where
    the checkpoints were written it has no effect. SQLite counts positions, which mean the same
    everywhere: nothing is done there, and rows that were copied from SQLite to PostgreSQL are rebased.

    Arguments:
        chosen: which contexts; None (default) means all.
        dry_run: change nothing, and count.

    Raises:
        OutboxInboxError: a transaction that has written to the stream stays open for a minute; or
            the rows were copied one by one, so that it is not known what was handled.
        ContextMoved: a context is closed on its database.
    """
    wanted = contexts() if chosen is None else tuple(chosen)
    return [each for context in wanted for each in _rebase(context, dry_run=dry_run)]


@refusals_explained()
def _rebase(context: Context, *, dry_run: bool) -> list[Rebased]:
    if not dialect_class(connections[context.database]).has_snapshots:
        return []

    def rewrite(connection: BaseDatabaseWrapper) -> list[Rebased]:
        # Without the locks, an event recorded in between would be neither handled nor unhandled.
        lock_tables(connection, [Checkpoint, StoredEvent])
        _refuse_copied(connection, context)
        unhandled = unhandled_events(context.label, context.database)
        if not dry_run:
            mark_events_handled(connection, context.label, _HANDLED)
            set_unhandled(connection, context.label, unhandled)
        return [Rebased(context.label, name, len(found)) for name, found in unhandled.items()]

    return retry_until_locked(context.database, rewrite)


def _refuse_copied(connection: BaseDatabaseWrapper, context: Context) -> None:
    rows = Checkpoint.objects.using(context.database).filter(context=context.label)
    found = rows.order_by("subscription").values_list("subscription", *CheckpointProgress._fields)
    copied = [
        name
        for name, *mark in found
        if mark[0] and was_copied(connection, CheckpointProgress(*mark))
    ]
    if copied:
        raise OutboxInboxError(copied_text(context.label, copied))


def unhandled_events(label: str, using: str) -> dict[str, list[int]]:
    """Return for each subscription of a context the positions that it has still to handle.

    Only meaningful while no process can record events or advance a subscription.
    """
    rows = Checkpoint.objects.using(using).filter(context=label).order_by("subscription")
    names = list(rows.values_list("subscription", flat=True))
    return {name: unhandled_positions(connections[using], label, name) for name in names}


def set_unhandled(
    connection: BaseDatabaseWrapper, label: str, unhandled: Mapping[str, Sequence[int]]
) -> None:
    """Write checkpoints that have handled all events but these, with the ids of this server.

    In the open transaction, in which no other process can write to the context's stream.

    Raises:
        OutboxInboxError: the subscriptions lack events in too many different ways.
    """
    lacking: dict[int, set[str]] = defaultdict(set)
    for name, positions in unhandled.items():
        for position in positions:
            lacking[position].add(name)
    # All events that the same subscriptions lack get one id.
    groups: dict[frozenset[str], list[int]] = defaultdict(list)
    for position, names in lacking.items():
        groups[frozenset(names)].append(position)
    if len(groups) > _END - _FIRST:
        raise OutboxInboxError(
            f"the {len(unhandled)} subscriptions of {label!r} lack events in {len(groups)} "
            "different ways: let some of them catch up first"
        )
    ids = dict(zip(groups, range(_FIRST, _END), strict=False))
    for group, positions in groups.items():
        mark_events_unhandled(connection, sorted(positions), ids[group])
    for name in unhandled:
        rebase_checkpoint(connection, label, name, [ids[group] for group in ids if name in group])
