"""Rename: the unfinished deliveries of consumers follow to the name that the code has now.

The old names get no more deliveries from then on, also from processes that still run the old code:
in a deployment a message would otherwise have effects under both names.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from django.db import IntegrityError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Exists, Min, OuterRef, QuerySet

from outbox_inbox.conf.section import suggestion
from outbox_inbox.contexts import Consumer, Context
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import (
    Delivery,
    DeliveryState,
    Interest,
    InterestKind,
    ProcessState,
    Queue,
)
from outbox_inbox.queues.interests import store_interests
from outbox_inbox.queues.layouts import stored_layout
from outbox_inbox.queues.partitions import operator_lock
from outbox_inbox.queues.statements.common import DELIVERY, INBOX
from outbox_inbox.queues.statements.dialects import database_time, dialect, stored_time
from outbox_inbox.queues.statements.moved import refusals_explained
from outbox_inbox.queues.wakeup import nudge

from .listeners import UnknownConsumer, unfinished_of
from .selection import state_sql
from .table_locks import lock_tables, retry_until_locked

T = TypeVar("T")

_TRIES = 10  # beside writers that cannot be shut out
_CHUNK = 500  # ids or keys in one statement: SQLite takes no list of a million


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    """What happened to the deliveries of the old consumers.

    Fields:
        moved: unfinished deliveries that have the new name now.
        merged: unfinished deliveries that were removed, since the new consumer has the same message.
        handled: deliveries of the new consumer that count as done, since an old one had handled the
            message.
        repeated: messages that some of the old consumers had handled and others had not: the new one
            handles them as a whole.
    """

    moved: int
    merged: int
    handled: int
    repeated: int


def rename_consumers(
    context: Context,
    old: Sequence[str],
    new: str,
    *,
    repeat: bool = False,
    dry_run: bool = False,
) -> Renamed:
    """Give the unfinished deliveries of consumers to another one; the order of each key is kept.

    One transaction, under the locks of all partitions of the inbox: workers wait meanwhile. On
    PostgreSQL writers wait as well, and transactions that have written are waited for. On MySQL a
    transaction that is open may add deliveries of an old name; a second call moves them.

    Arguments:
        old: the names that the code does not have any more; several become one consumer.
        new: the name of a consumer that the code of this process has.
        repeat: let the new consumer handle messages again that some of the old ones have handled.
        dry_run: change nothing, and count.

    Raises:
        UnknownConsumer: a name does not fit.
        OutboxInboxError: the new consumer does not take a type that an old one has left; messages
            would be handled again, and ``repeat`` is not given; an old one is a process, whose
            instances have its name; or the tables could not be locked for a minute.
    """
    consumer = _checked(context, old, new)

    def rename(connection: BaseDatabaseWrapper) -> Renamed:
        with operator_lock(context, Queue.INBOX):
            # A delivery committed after the UPDATE would keep a name that no process has.
            lock_tables(connection, [Delivery])
            _rename_interests(context, old, new)
            done = _Rename(context, connection, old, consumer).run(repeat=repeat)
            if dry_run:
                transaction.set_rollback(True, using=context.database)
        return done

    with refusals_explained():
        done = _retry_beside_writers(lambda: retry_until_locked(context.database, rename))
    if not dry_run:
        nudge(context, "dispatch")
    return done


def _retry_beside_writers(work: Callable[[], Renamed]) -> Renamed:
    # Where tables cannot be locked (MySQL), a message may come in while deliveries are compared: it has
    # one of the old name and one of the new, which the UPDATE meets. The next try finds both.
    for tries_left in reversed(range(_TRIES)):
        try:
            return work()
        except IntegrityError:
            if not tries_left:
                raise
    raise AssertionError("no try was made")


def _checked(context: Context, old: Sequence[str], new: str) -> Consumer:
    consumer = context.consumers.get(new)
    if consumer is None:
        raise UnknownConsumer(
            f"the code of this process has no consumer {new!r} in {context.label!r}"
            f"{suggestion(new, list(context.consumers))}"
        )
    stored = Interest.objects.using(context.database).filter(context=context.label)
    known = set(stored.filter(kind=InterestKind.CONSUMER).values_list("name", flat=True))
    for name in old:
        if name in context.consumers:
            raise UnknownConsumer(
                f"{name!r} is a consumer of the code of this process: it was not renamed"
            )
        if name not in known and not unfinished_of(context, [name]).exists():
            raise UnknownConsumer(
                f"{context.label!r} never had a consumer {name!r}"
                f"{suggestion(name, sorted(known - set(context.consumers)))}"
            )
    instances = ProcessState.objects.using(context.database).filter(context=context.label)
    for name in instances.filter(process__in=old).values_list("process", flat=True)[:1]:
        raise OutboxInboxError(
            f"{name!r} is a process, and its instances and time-outs are stored by this name: keep it "
            f"with class {new.rpartition('.')[2]}(Process, name={name!r})"
        )
    unfit = unfinished_of(context, old).exclude(message__type__in=list(consumer.events))
    for name, type_name in unfit.values_list("consumer", "message__type")[:1]:
        raise OutboxInboxError(
            f"{name!r} has unfinished deliveries of {type_name!r}, which {new!r} does not take: "
            "handle or discard them first"
        )
    return consumer


def _rename_interests(context: Context, old: Sequence[str], new: str) -> None:
    store_interests(context.database)
    rows = Interest.objects.using(context.database).filter(
        context=context.label, kind=InterestKind.CONSUMER
    )
    # The new name may be an old one that has come back.
    rows.filter(name=new, renamed_to__gt="").update(renamed_to="", retired_at=None)
    now = stored_time(database_time(connections[context.database]))
    rows.filter(name__in=old, retired_at=None).update(retired_at=now)
    rows.filter(name__in=old).update(renamed_to=new)


def _ids(rows: QuerySet[Delivery]) -> list[int]:
    return list(rows.values_list("pk", flat=True))


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


class _Rename:
    """The deliveries of one renaming, under the locks."""

    def __init__(
        self, context: Context, connection: BaseDatabaseWrapper, old: Sequence[str], new: Consumer
    ) -> None:
        self._context, self._connection = context, connection
        self._old, self._new = list(old), new
        self._rows = Delivery.objects.using(context.database).filter(context=context.label)

    def run(self, *, repeat: bool) -> Renamed:
        repeated = self._count_repeated()
        if repeated and not repeat:
            raise OutboxInboxError(
                f"some of the old consumers have handled messages that others have not ({repeated:,}), "
                f"and {self._new.name!r} would handle these as a whole: let processes of the old code "
                "finish them, discard them, or say --repeat"
            )
        handled = self._finish_handled()
        merged = self._remove_repeated()
        moved = self._move()
        self._restore_order()
        return Renamed(moved=moved, merged=merged, handled=handled, repeated=repeated)

    def _others(self, names: Sequence[str]) -> Exists:
        same = self._rows.filter(message=OuterRef("message"), consumer__in=names)
        return Exists(same.filter(state=DeliveryState.DONE))

    def _count_repeated(self) -> int:
        left = unfinished_of(self._context, self._old).filter(self._others(self._old))
        return left.order_by().values("message").distinct().count()

    def _finish_handled(self) -> int:
        """Finish deliveries of the new name whose message every old consumer has handled."""
        unfinished = unfinished_of(self._context, [self._new.name])
        left = unfinished_of(self._context, self._old).filter(message=OuterRef("message"))
        handled = unfinished.filter(self._others(self._old)).exclude(Exists(left))
        ids = _ids(handled)
        now = stored_time(database_time(self._connection))
        for chunk in _chunks(ids):
            self._rows.filter(pk__in=chunk).update(
                state=DeliveryState.DONE, holds=False, finished_at=now, due_at=None
            )
        return len(ids)

    def _remove_repeated(self) -> int:
        """Remove deliveries whose message the new name has too, or an old one with a lower id."""
        left = unfinished_of(self._context, self._old)
        same = self._rows.filter(message=OuterRef("message"))
        earlier = unfinished_of(self._context, self._old).filter(
            message=OuterRef("message"), pk__lt=OuterRef("pk")
        )
        twice = left.filter(Exists(same.filter(consumer=self._new.name)))
        ids = {*_ids(twice), *_ids(left.filter(Exists(earlier)))}
        for chunk in _chunks(sorted(ids)):
            self._rows.filter(pk__in=chunk).delete()
        return len(ids)

    def _move(self) -> int:
        sql, hashed = dialect(self._connection), self._new.hash
        # As the INSERT of deliveries does it; the locks of all partitions keep the layout as it is.
        target = (
            f"(SELECT ((m.key_hash | {hashed:d}) - (m.key_hash & {hashed:d}))"
            f" %% {stored_layout(self._context).inbox:d} FROM {INBOX} m"
            f" WHERE m.id = {DELIVERY}.message_id)"
        )
        name = self._new.name.replace("'", "''").replace("%", "%%")
        unfinished = state_sql(Queue.INBOX, "unfinished")
        return sum(
            sql.update_rows(
                self._connection,
                DELIVERY,
                f"consumer = '{name}', {sql.partition} = {target}",
                f"context = %s AND consumer = %s AND ({unfinished})",
                [self._context.label, each],
            )
            for each in self._old
        )

    def _restore_order(self) -> None:
        """Let the earliest unfinished delivery of each key be its head, and the only one that holds.

        The heads of several old consumers would block each other, or be handled before deliveries
        that are older.
        """
        mine = self._rows.filter(consumer=self._new.name, key__isnull=False)
        open_ = mine.filter(state__in=(DeliveryState.READY, DeliveryState.WAITING)) | mine.filter(
            state=DeliveryState.DEAD, holds=True
        )
        troubled = open_.exclude(state=DeliveryState.READY, holds=False)
        keys = list(troubled.order_by().values_list("key", flat=True).distinct())
        for some_keys in _chunks(keys):
            some = open_.filter(key__in=some_keys)
            heads = list(
                some.order_by().values("key").annotate(m=Min("pk")).values_list("m", flat=True)
            )
            # A dead one that is not the head is tried again in its turn.
            for followers in _chunks(_ids(some.exclude(pk__in=heads))):
                self._rows.filter(pk__in=followers).update(
                    state=DeliveryState.READY, holds=False, due_at=None, finished_at=None
                )
            self._rows.filter(pk__in=heads, state=DeliveryState.WAITING).update(
                state=DeliveryState.READY
            )
