"""The partition lock: one worker at a time on a share of a queue, without clocks or leases.

Who has the row of a partition locked works on it; nobody else can, and a crash releases it at
once. Since a worker commits often, it also writes a token (``run``) when it comes and takes it
away when it goes:

- A worker that comes back for its next message and does not find its own token knows that
  somebody else was there; it drops what it has read ahead.
- A token that is still there when somebody else gets the lock, and that has shown no sign of life
  for a moment, says that a run had no clean end. The next run is *careful*: it goes on one message at a time, with the attempt committed before
  the message is touched, so that a message which kills its worker runs out of attempts (rule O9).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from uuid import UUID, uuid4

from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    connections,
    models,
    router,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf import settings
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import SettingsError
from outbox_inbox.models import Delivery, OutboxMessage, Partition, Queue

from . import statements
from .outcome import Outcome, Tally
from .relay_source import stream_is_waiting
from .statements.dialects import as_uuid_or_none, dialect, gave_way

_ROWS: dict[Queue, type[models.Model] | None] = {
    Queue.OUTBOX: OutboxMessage,
    Queue.INBOX: Delivery,
    Queue.INTAKE: None,
}


_PROMOTE = 1.0  # seconds after which a run that goes on looks for rows that have come due
_TRIES = 10  # to make the rows of partitions while others make them, too


Seen = Sequence[statements.Work]
"""The partitions of a queue, as a look has found them."""


class Lost(Exception):
    """Somebody else has been at work on the partition; what was read ahead is worth nothing."""


class GaveWay(Lost):
    """The database rolled the transaction back so that another could go on: a deadlock.

    It is no message's fault and costs no attempt; the partition is visited again.
    """


class Run:
    """A worker's stay on one partition, from its token's writing to its taking away.

    Attributes:
        careful: how many messages are still to be taken one at a time, since the run before
            this one was left without a clean end; 0 in the ordinary run.
    """

    def __init__(
        self, context: Context, partition: statements.Work, token: UUID, careful: int
    ) -> None:
        self.context = context
        self.id = partition.id
        self.number = partition.number
        self.outages = partition.outages
        self.careful = careful
        self.token = token
        self.ended = False
        self._shown = self._promoted = monotonic()
        self._due = partition.due
        self.connection: BaseDatabaseWrapper = connections[context.database]
        self._session = self.connection.connection
        self.freeze_ms = _freeze_ms()

    @contextmanager
    def locked(self) -> Iterator[BaseDatabaseWrapper]:
        """Open a transaction that has the partition's lock.

        Raises:
            Lost: somebody else has the lock, or had it since this run last did, or an operator
                paused the partition; or the database rolled back for another's sake.
        """
        with self.giving_way(), transaction.atomic(using=self.context.database):
            self.lock()
            yield self.connection
            self.show_life()

    @contextmanager
    def giving_way(self, *, waited: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Turn the errors with which a database resolves a deadlock into `GaveWay`.

        ``waited``: asked whether having waited too long for a lock is one of them.
        """
        try:
            yield
        except OperationalError as error:
            if gave_way(self.connection, error, waited=waited()):
                raise GaveWay from error
            raise

    def lock(self) -> None:
        """Take the partition's lock in the caller's transaction.

        Raises:
            Lost: as `locked`.
        """
        held = statements.lock_partition(self.connection, self.id, self.freeze_ms)
        if held is None or held.paused or as_uuid_or_none(held.run) != self.token:
            raise Lost
        self._session = self.connection.connection

    def claim(self, delivery: int) -> None:
        """Take the lock and mark one delivery as done, in the caller's transaction.

        Raises:
            Lost: as `locked`.
        """
        if not statements.claim(self.connection, self.id, self.token, self.freeze_ms, delivery):
            raise Lost
        self._session = self.connection.connection

    def disconnected(self, error: BaseException) -> bool:
        """Tell whether an error is that of a connection that is gone, and so of no message."""
        return isinstance(error, DatabaseError | InterfaceError) and not self.connected()

    def connected(self) -> bool:
        """Tell whether the connection of the last transaction is still there.

        Django opens another as soon as it finds one broken; what the old one did is unknown.
        """
        same = self.connection.connection is self._session and self._session is not None
        return same and not self.connection.needs_rollback and self.connection.is_usable()

    def show_life(self) -> None:
        """Tell others, at the end of the caller's transaction, that this run is under way.

        Most of the time it does nothing: once in a while is enough.
        """
        if not self.ended and monotonic() - self._shown > statements.SILENCE / 4:
            statements.set_run(self.connection, self.id, self.token)
            self._shown = monotonic()

    def promotes(self) -> bool:
        """Tell whether rows may have come due: some had at the look before, or it was a while ago."""
        return self._due or monotonic() - self._promoted > _PROMOTE

    def promote(self, model: type[models.Model]) -> None:
        """Make rows available whose time has come, in a transaction that has the lock."""
        if self.promotes():
            statements.promote(self.connection, model, self.context.label, self.number)
            self._promoted, self._due = monotonic(), False

    def rest(self, error: str, seconds: float) -> None:
        """End the run because the transport is out of reach."""
        with self.locked() as connection:
            statements.rest_partition(connection, self.id, error, seconds)
            self.ended = True

    def end(self) -> None:
        """Take the token away in the caller's transaction, the last one of this run."""
        statements.set_run(self.connection, self.id, None)
        self.ended = True

    def recovered(self) -> None:
        """Forget an outage, in the transaction of the batch that went through."""
        if self.outages:
            statements.wake_partition(self.connection, self.id)
            self.outages = 0


@contextmanager
def stay(context: Context, partition: statements.Work) -> Iterator[Run | None]:
    """Begin a run on a partition, and end it cleanly; None: somebody else is there.

    Only an end without clean-up (kill -9, power cut, lost connection) leaves the token behind.
    """
    run = _begin(context, partition)
    if run is None:
        yield None
        return
    try:
        with statements.guarded(run.connection, run.freeze_ms):
            yield run
    except BaseException:
        if run.connected():
            _end(run)
        raise
    _end(run)


def _begin(context: Context, partition: statements.Work) -> Run | None:
    connection, token = connections[context.database], uuid4()
    if connection.vendor == "postgresql":
        held = statements.begin_run(connection, partition.id, token)
    else:
        with transaction.atomic(using=context.database):
            held = statements.lock_partition(connection, partition.id, _freeze_ms(), free=True)
            if held is not None:
                statements.set_run(connection, partition.id, token)
    if held is None:
        return None
    careful = settings().batch_size if held.run is not None else 0
    return Run(context, partition, token, careful)


def _freeze_ms() -> int:
    return int(settings().frozen_after.total_seconds() * 1000)


def _end(run: Run) -> None:
    if not run.ended:
        statements.end_run(run.connection, run.id, run.token)


def sweep(
    context: Context,
    queue: Queue,
    work: Callable[[Run, Tally], None],
    tally: Tally,
    seen: Seen | None = None,
) -> Outcome:
    """Work through the partitions of a queue until nothing is left to be done now.

    Arguments:
        work: does what there is to do in one partition, and counts it.
        tally: ends the sweep when it is finished.
        seen: go over these partitions, once: somebody has just looked, and will look again.
    """
    if seen is not None:
        _go_over(context, seen, work, tally)
        return tally.outcome
    moved = True
    while moved and not tally.finished():
        before = tally.outcome
        _go_over(context, look(context, queue), work, tally)
        # An intake has no rows to be looked at; its mover has asked the transport until it was empty.
        moved = tally.outcome.steps > before.steps and _ROWS[queue] is not None
    return tally.outcome


def _go_over(
    context: Context, seen: Seen, work: Callable[[Run, Tally], None], tally: Tally
) -> None:
    for partition in seen:
        if tally.finished():
            return
        if partition.ready and not (partition.paused or partition.resting):
            _visit(context, partition, work, tally)


def _visit(
    context: Context,
    partition: statements.Work,
    work: Callable[[Run, Tally], None],
    tally: Tally,
) -> None:
    if partition.live:
        tally.add(Outcome(busy=1))
        return
    with stay(context, partition) as run:
        if run is None:
            tally.add(Outcome(busy=1))
        else:
            work(run, tally)


def look(context: Context, queue: Queue) -> list[statements.Work]:
    """Return the partitions of a queue with whether there is work: one cheap statement.

    Raises:
        SettingsError: the settings name another number of partitions than the rows were spread
            over. Nothing is handled until ``manage.py repartition``, which keeps the order.
    """
    connection, model = connections[context.database], _ROWS[queue]
    found = statements.look(connection, context.label, queue, model)
    wanted = partition_count(context, queue)
    if not found:
        ensure_partitions(context.database)
        return statements.look(connection, context.label, queue, model)
    if queue == Queue.OUTBOX and not all(each.ready for each in found):
        found = with_stream(context, found)
    if len(found) != wanted:
        raise SettingsError(
            f'OUTBOX_INBOX["PARTITIONS"]["{queue}"] is {wanted}, and the {queue} of '
            f"{context.label!r} is spread over {len(found)}: run manage.py repartition"
        )
    return found


def with_stream(context: Context, found: Sequence[statements.Work]) -> list[statements.Work]:
    """Return the partitions of an outbox, ready where the stream has something for the relay."""
    if not stream_is_waiting(context):
        return list(found)
    return [each._replace(ready=True) for each in found]


def partition_count(context: Context, queue: Queue) -> int:
    """Return how many partitions the settings give to a queue of a context."""
    counts = {Queue.OUTBOX: context.outbox_partitions, Queue.INBOX: settings().partitions.inbox}
    return counts.get(queue, 1)


def ensure_partitions(using: str) -> None:
    """Create the partition rows of all contexts on a database; harmless when they are there.

    On MySQL and MariaDB, processes that do so together may deadlock: one is let through each time, and
    the others find its rows.
    """
    if not router.allow_migrate_model(using, Partition):
        return
    connection = connections[using]
    for tries_left in reversed(range(_TRIES)):
        try:
            _make_partitions(using)
        except DatabaseError as error:
            if not tries_left or connection.in_atomic_block or not gave_way(connection, error):
                raise
        else:
            return


def _make_partitions(using: str) -> None:
    have = set(Partition.objects.using(using).values_list("context", "queue").distinct())
    Partition.objects.using(using).bulk_create(
        (
            Partition(context=context.label, queue=queue, number=number)
            for context in contexts()
            if context.database == using
            for queue in Queue
            if (context.label, queue.value) not in have
            for number in range(partition_count(context, queue))
        ),
        ignore_conflicts=True,
    )


@contextmanager
def operator_lock(
    context: Context, queue: Queue, numbers: Iterable[int] | None = None
) -> Iterator[BaseDatabaseWrapper]:
    """Open a transaction in which no worker is at the given partitions (default: all).

    It waits for the transaction that a worker is in, and has every worker drop what it has read
    ahead. States are only changed under this lock, or by the mover that has the partition:
    otherwise a follower could be set to wait behind a head that was just solved, for ever.
    """
    connection = connections[context.database]
    with transaction.atomic(using=context.database):
        rows = Partition.objects.using(context.database).filter(context=context.label, queue=queue)
        if numbers is not None:
            rows = rows.filter(number__in=list(numbers))
        if dialect(connection).skip_locked:
            list(rows.order_by("number").select_for_update().values_list("pk"))
        rows.update(run=None)
        yield connection
