"""One worker's stay on one partition."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from uuid import UUID, uuid4

from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    connections,
    models,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf import settings
from outbox_inbox.contexts import Context

from . import statements
from .statements.dialects import as_uuid_or_none, gave_way

_PROMOTE = 1.0  # seconds after which a run that goes on looks for rows that have come due


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
        self, context: Context, partition: statements.PartitionStatus, token: UUID, careful: int
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
    def giving_way(self) -> Iterator[None]:
        """Turn the errors with which a database resolves a deadlock into `GaveWay`.

        For the worker's own statements only: a consumer that waits too long for a lock has failed.
        """
        try:
            yield
        except OperationalError as error:
            if gave_way(self.connection, error):
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
        if not statements.claim_delivery(
            self.connection, self.id, self.token, self.freeze_ms, delivery
        ):
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
            statements.promote_due(self.connection, model, self.context.label, self.number)
            self._promoted, self._due = monotonic(), False

    def rest(self, error: str, seconds: float) -> None:
        """End the run because the transport is out of reach."""
        with self.locked() as connection:
            statements.back_off_partition(connection, self.id, error, seconds)
            self.ended = True

    def end(self) -> None:
        """Take the token away in the caller's transaction, the last one of this run."""
        statements.set_run(self.connection, self.id, None)
        self.ended = True

    def recovered(self) -> None:
        """Forget an outage, in the transaction of the batch that went through."""
        if self.outages:
            statements.clear_outage(self.connection, self.id)
            self.outages = 0


@contextmanager
def partition_run(context: Context, partition: statements.PartitionStatus) -> Iterator[Run | None]:
    """Begin a run on a partition, and end it cleanly; None: somebody else is there.

    Only an end without clean-up (kill -9, power cut, lost connection) leaves the token behind.
    """
    run = _begin(context, partition)
    if run is None:
        yield None
        return
    try:
        with statements.guarded_session(run.connection, run.freeze_ms):
            yield run
    except BaseException:
        if run.connected():
            _end(run)
        raise
    _end(run)


def _begin(context: Context, partition: statements.PartitionStatus) -> Run | None:
    connection, token = connections[context.database], uuid4()
    held = statements.begin_run(connection, partition.id, token, _freeze_ms())
    if held is None:
        return None
    careful = settings().batch_size if held.run is not None else 0
    return Run(context, partition, token, careful)


def _freeze_ms() -> int:
    return int(settings().frozen_after.total_seconds() * 1000)


def _end(run: Run) -> None:
    if not run.ended:
        statements.end_run(run.connection, run.id, run.token)
