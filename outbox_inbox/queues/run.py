"""One worker's run on one partition: the token, the lock of each transaction, and its end.

Without the token two workers would take turns within one key: a worker commits after each message, and
another could get the lock between two of its transactions. Without a clean end that takes the token
away, a message that kills its worker would do so at each attempt (rule O9).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from uuid import UUID, uuid4

from django.db import Error, OperationalError, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf import settings
from outbox_inbox.conf.clock import monotonic
from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import TransportUnavailable

from . import statements
from .blame import outage_behind
from .statements.dialects import as_uuid_or_none, dialect, gave_way
from .task_terms import TIME_LIMITS

_TRIES = 5  # to end a run while others change the partition
_PROMOTE = 1.0  # seconds after which a run that goes on looks for rows that have come due
_PROMOTED = 1_000  # of them at a time: a million in one transaction keep the partition for a minute


class Lost(Exception):
    """Another worker has owned the partition since; what was read ahead is worth nothing."""


class GaveWay(Lost):
    """A deadlock: the database rolled the transaction back. It costs no message an attempt."""


class AttemptFailed(Exception):
    """A transaction was rolled back by ``error``, and one of its messages may be the cause."""

    def __init__(self, error: Exception, *, raised: bool = False) -> None:
        super().__init__(error)
        self.error = error
        self.raised = raised
        """The consumer has raised it, and not the COMMIT."""


class Run:
    """A worker's run on one partition, from the moment it writes its token until it clears it.

    Attributes:
        follows: of an outbox: there may be events for the relay in the stream.
        failures: outages in a row before this run.
        careful: how many messages must still be taken one at a time, since the run before
            this one had no clean end; 0 in an ordinary run.
        cut_off: it ends with its turn or call. What it has to take carefully, the next run does.
        positions: how far the transport was read or published to before this run.
        reached: the same, now: written with the next change of the partition; None: no change.
        astray: back-offs in the partition may end too far ahead, since the clock was put back.
    """

    def __init__(
        self,
        context: Context,
        partition: statements.PartitionStatus,
        token: UUID,
        careful: int,
        positions: str = "",
        *,
        put_back: bool = False,
    ) -> None:
        self.astray, self._put_back = partition.astray or put_back, put_back
        self.positions = positions
        self.reached: str | None = None
        self.context = context
        self.id = partition.id
        self.number = partition.number
        self.follows = partition.follows
        self.failures = partition.outages
        self.careful = careful
        self.token = token
        self.ended = self.cut_off = False
        self._shown = self._promoted = monotonic()
        self._due = partition.due
        self.connection: BaseDatabaseWrapper = connections[context.database]
        self._session = self.connection.connection
        self.freeze_ms = freeze_ms()

    @contextmanager
    def locked(self) -> Iterator[BaseDatabaseWrapper]:
        """Open a transaction that holds the partition's lock.

        Raises:
            Lost: another worker holds the lock, or held it since this run last did, or an operator
                paused the partition; or the database rolled back in favor of another transaction.
        """
        with self.giving_way(), transaction.atomic(using=self.context.database):
            self.lock()
            yield self.connection
            self.show_life()

    @contextmanager
    def attempt(self) -> Iterator[BaseDatabaseWrapper]:
        """Open a transaction as `locked` does, for work on which a message may fail.

        Raises:
            Lost: as `locked`.
            TransportUnavailable: as it is.
            AttemptFailed: anything else that was raised within it, or by its COMMIT.
            django.db.Error: the database's own failure, before the lock was taken or afterwards. No
                message has caused it.
        """
        locked = ExitStack()
        connection = locked.enter_context(self.locked())
        # Only from here on a message can be the cause. An error while the lock is taken must not be
        # counted against one, or an outage of the database would turn messages into dead letters.
        try:
            with locked:
                yield connection
        except (Lost, TransportUnavailable, AttemptFailed):
            self._due = True
            raise
        except Exception as error:
            # The rollback has undone a promotion: without another one, a message that fails in the
            # batch which promoted it would never be met by the careful walk, and no attempt counted.
            self._due = True
            if self.disconnected(error) or ends_worker(error):
                raise
            if outage_behind(self.connection, error):
                raise
            raise AttemptFailed(error) from error

    @contextmanager
    def giving_way(self) -> Iterator[None]:
        """Turn the errors with which a database resolves a deadlock into `GaveWay`."""
        # For the worker's own statements: a consumer that waits too long for a lock has failed.
        try:
            yield
        except OperationalError as error:
            if gave_way(self.connection, error):
                raise GaveWay from error
            raise

    def lock(self) -> None:
        """Take the partition's lock in the caller's transaction; it may raise `Lost`."""
        held = statements.lock_partition(self.connection, self.id, self.freeze_ms)
        # Another token, or none: another run or an operator changed states in between. To go on with
        # what was read before would put a message ahead of one that is to be sent first.
        if held is None or held.paused or as_uuid_or_none(held.run) != self.token:
            raise Lost
        self._session = self.connection.connection

    def claim(self, delivery: int) -> None:
        """Take the lock and mark one delivery as done, as `lock` does."""
        lock = (self.connection, self.id, self.token, self.freeze_ms)
        if not statements.claim_delivery(*lock, delivery):
            raise Lost
        self._session = self.connection.connection

    def disconnected(self, error: BaseException) -> bool:
        """Return whether an error is that of a lost connection, and so not a message's."""
        return isinstance(error, Error) and not self.connected()

    def connected(self) -> bool:
        """Return whether the connection of the last transaction still works."""
        # Django opens another as soon as it finds one broken; what the old one did is unknown.
        same = self.connection.connection is self._session and self._session is not None
        return same and not self.connection.needs_rollback and self.connection.is_usable()

    def show_life(self) -> None:
        """Show others, at the end of the caller's transaction, that this run goes on.

        Most calls do nothing: a sign of life is due only a few times within `SILENCE`. Without it
        another worker would take a long run for a crashed one between two of its transactions.
        """
        if not self.ended and monotonic() - self._shown > statements.SILENCE / 4:
            self._write_token(self.token)
            self._shown = monotonic()

    def _write_token(self, token: UUID | None) -> None:
        dialect(self.connection).set_run(self.connection, self.id, token, self.reached)

    def uncount_attempt(self, model: type[models.Model], row: int) -> None:
        """Take back an attempt that was committed before it was made, since no message is to blame."""
        # Without the partition's lock, which an operator or another worker may have by now: the number
        # alone is changed. What refuses this too must not take the place of the error in hand.
        with suppress(Error), transaction.atomic(using=self.context.database):
            statements.uncount_attempt(self.connection, model, row)

    def promotes(self) -> bool:
        """Return whether rows may have come due: some had at the look before, or it was a while ago."""
        return self._due or monotonic() - self._promoted > _PROMOTE

    def promote(self, model: type[models.Model]) -> None:
        """Make rows available that have come due, in a transaction that holds the lock.

        As many as two batches at a time, so that what has been due for long does not keep the worker
        from what is to be moved at once, nor the other way round.
        """
        if self.promotes():
            size = max(settings().batch_size, _PROMOTED)
            place = (self.context.label, self.number)
            found = statements.promote_due(self.connection, model, *place, size)
            self._promoted, self._due = monotonic(), found >= size

    def bring_back(self, model: type[models.Model] | None) -> None:
        """Make rows available whose back-off ends too far ahead, in a transaction of its own.

        Raises:
            Lost: as `locked`.
        """
        with self.locked() as connection:
            if model is not None:
                place = (self.context.label, self.number)
                statements.bring_back(connection, model, *place, put_back=self._put_back)
            # Last: by a time of the future the next run knows that this one did not come so far.
            if self._put_back:
                statements.restart(connection, self.id)
        self.astray = False

    def back_off(self, error: str, seconds: float) -> None:
        """End the run because of an outage, in a transaction of its own: see `outages.back_off`."""
        with self.locked() as connection:
            statements.back_off_partition(connection, self.id, error, seconds, self.reached)
            self.ended = True

    def end(self) -> None:
        """Clear the token in the caller's transaction, the last one of this run."""
        self._write_token(None)
        self.ended = True

    def recovered(self) -> None:
        """Clear an outage, in the transaction of the batch that went through."""
        if self.failures:
            statements.clear_outage(self.connection, self.id)
            self.failures = 0


@contextmanager
def partition_run(
    context: Context, partition: statements.PartitionStatus, suspect_batches: int = 1
) -> Iterator[Run | None]:
    """Begin a run on a partition, and end it cleanly; None: another worker owns it.

    ``suspect_batches``: how many batches a run takes carefully after one without a clean end.
    """
    connection, token = connections[context.database], uuid4()
    try:
        held = statements.begin_run(connection, partition.id, token, freeze_ms())
    except OperationalError as error:
        if not gave_way(connection, error):
            raise
        held = None  # at SERIALIZABLE, two workers that begin at once meet here
    if held is None:
        yield None
        return
    careful = _careful(held.run, suspect_batches)
    run = Run(context, partition, token, careful, held.positions, put_back=held.put_back)
    try:
        with dialect(connection).guarded_session(connection, run.freeze_ms):
            yield run
    except BaseException as error:
        # On a new connection it is unknown what the lost one has committed: the token stays, and the
        # next run is careful. It is the same when a message may have ended this worker, by sys.exit or
        # a time limit: after a clean end the next worker would end in the same way, without an attempt.
        if run.connected() and not ends_worker(error):
            _end_run(run)
        raise
    _end_run(run)


def ends_worker(error: BaseException) -> bool:
    """Return whether an exception ends the worker, other than by an operator's Ctrl-C."""
    if isinstance(error, KeyboardInterrupt):
        return False
    return not isinstance(error, Exception) or isinstance(error, tuple(TIME_LIMITS))


def freeze_ms() -> int:
    """Return the setting FROZEN_AFTER in milliseconds."""
    return int(settings().frozen_after.total_seconds() * 1000)


def _careful(token: Any, suspect_batches: int) -> int:
    """Return how many messages must be taken one at a time after a run that left this token."""
    if token is None:
        return 0
    left = statements.careful_left(token)
    # Any other token belongs to a run that had no clean end (kill -9, power cut, lost connection),
    # and one message may be why.
    return suspect_batches * settings().batch_size if left is None else left


def _end_run(run: Run) -> None:
    # A walk that ends with its turn goes on in the next run. Forgotten, it would end before the
    # message that kills its worker, at each turn.
    careful = run.careful if run.cut_off else 0
    for tries_left in reversed(range(_TRIES)):
        if run.ended:
            return
        try:
            place = (run.connection, run.id, run.token)
            statements.end_run(*place, careful=careful, positions=run.reached)
            return
        except OperationalError as error:
            # With the token left there, the next run would take this one for a crash.
            if not tries_left or not gave_way(run.connection, error):
                raise
