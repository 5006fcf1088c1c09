"""The ways to handle deliveries: each alone, many together, or as one list.

In every way a delivery is marked as done in the transaction of its effects (rule O5), and after a
failure the later deliveries of its consumer and key are left where they are (rule O6).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

from django.db import transaction

from outbox_inbox.conf import faults, settings
from outbox_inbox.contexts import Consumer
from outbox_inbox.exceptions import HandlerError
from outbox_inbox.models import Delivery
from outbox_inbox.queues import announcements, statements
from outbox_inbox.queues.attempts import Verdict, crash_error, judge_attempt, traceback_text
from outbox_inbox.queues.outcome import MoverCall, Outcome
from outbox_inbox.queues.run import GaveWay, Lost, Run
from outbox_inbox.queues.statements import ReadyRow

from .delivery import Commit, Translations, deliver


@dataclass(slots=True)
class _Batch:
    """What a batch came to, told to the world after its commit."""

    taken: int = 0
    done: list[ReadyRow] = field(default_factory=list)
    failed: list[tuple[ReadyRow, Verdict]] = field(default_factory=list)


class Executor:
    """Handles what was read ahead of one partition.

    Every method may raise `Lost` (somebody else was there: read again), or the error of a
    connection that is gone.
    """

    def __init__(self, run: Run, tally: MoverCall) -> None:
        self.run = run
        self.tally = tally
        self.context = run.context
        self._blocked: set[tuple[str, str | None]] = set()
        self._calling = False

    def each(self, rows: Sequence[ReadyRow], handle: Callable[[ReadyRow], None]) -> None:
        """Handle deliveries one after the other, leaving out those behind a failed one."""
        for row in rows:
            if self.tally.finished():
                return
            if not self._is_blocked(row):
                handle(row)

    def alone(self, row: ReadyRow) -> None:
        """Handle one delivery in a transaction of its own."""
        claimed = False
        try:
            with self._committing(row):
                self.run.claim(row.id)
                claimed = True
                faults.point("dispatch.after_claim")
                self._call(row)
                self._release([row])
        except Lost:
            raise
        except Exception as error:
            if not claimed:
                raise  # "database is locked" and the like: the message was not even touched
            self._raise_if_lost(error)
            self._fail(row, error, row.attempts + 1)
        else:
            self.tally.add(Outcome(done=1))

    def carefully(self, row: ReadyRow) -> None:
        """Handle one delivery with its attempt committed before it is touched (rule O9)."""
        self.run.careful = max(self.run.careful - 1, 0)
        consumer = self.context.consumers.get(row.consumer)
        most = consumer.max_attempts if consumer else None
        if row.attempts >= (settings().max_attempts if most is None else most):
            self._fail(row, crash_error(), row.attempts)
            return
        with self.run.locked() as connection:
            statements.count_attempt(connection, Delivery, row.id)
        try:
            self.alone(row)
        except GaveWay:
            with self.run.locked() as connection:
                statements.count_attempt(connection, Delivery, row.id, by=-1)
            raise

    def together(self, rows: Sequence[ReadyRow]) -> None:
        """Handle deliveries in one transaction; only after a failure with a savepoint each.

        When even that fails it was the COMMIT, for example by a deferred constraint, and each
        is handled alone.
        """
        left = [row for row in rows if not self._is_blocked(row)]
        while left and not self.tally.finished():
            batch = self._try(left, savepoints=False) or self._try(left, savepoints=True)
            if batch is None:
                self.each(left, self.alone)
                return
            self.tally.add(Outcome(done=len(batch.done)))
            for row, verdict in batch.failed:
                self._count_failure(row, verdict)
            left = [row for row in left[batch.taken :] if not self._is_blocked(row)]

    def as_list(self, consumer: Consumer, rows: Sequence[ReadyRow]) -> None:
        """Hand a list to its handler; after a failure, one by one; the doubtful always so."""
        doubtful = {row.key for row in rows if row.attempts} - {None}
        fresh = [row for row in rows if not row.attempts and row.key not in doubtful]
        if fresh and not self.tally.finished():
            try:
                with self._committing(fresh[-1]):
                    self.run.lock()
                    faults.point("dispatch.after_claim")
                    self._deliver(consumer, fresh, Translations())
                    self._mark_done(fresh)
            except Lost:
                raise
            except Exception as error:
                self._raise_if_lost(error)
                self.each(fresh, self.alone)
            else:
                self.tally.add(Outcome(done=len(fresh)))
        self.each([row for row in rows if row.attempts or row.key in doubtful], self.alone)

    def _try(self, rows: Sequence[ReadyRow], *, savepoints: bool) -> _Batch | None:
        """Handle deliveries in one transaction; None: it failed, and nothing has happened."""
        blocked = set(self._blocked)
        try:
            return self._batch(rows, savepoints=savepoints)
        except BaseException as error:
            self._blocked = blocked
            if isinstance(error, Lost) or not isinstance(error, Exception):
                raise
            self._raise_if_lost(error)
            return None

    def _batch(self, rows: Sequence[ReadyRow], *, savepoints: bool) -> _Batch:
        """Handle deliveries until they or the time is used up."""
        deadline = monotonic() + settings().batch_time.total_seconds()
        translations, batch = Translations(), _Batch()
        with self._committing(rows[-1]):
            self.run.lock()
            faults.point("dispatch.after_claim")
            for row in rows:
                batch.taken += 1
                if self._is_blocked(row):
                    continue
                savepoint = savepoints or row.attempts > 0
                verdict = self._call_in_batch(row, translations, savepoint=savepoint)
                if verdict is None:
                    batch.done.append(row)
                else:
                    batch.failed.append((row, verdict))
                if monotonic() > deadline:
                    break
            translations.store(self.context)
            self._mark_done(batch.done)
        return batch

    def _call_in_batch(
        self, row: ReadyRow, translations: Translations, *, savepoint: bool
    ) -> Verdict | None:
        """Handle one delivery of a batch; with a savepoint, return the verdict when it failed."""
        if not savepoint:
            self._call(row, translations)
            return None
        try:
            with transaction.atomic(using=self.context.database):
                self._call(row)
        except Exception as error:
            self._raise_if_lost(error)
            self._calling = False
            return self._store_failure(row, error, row.attempts + 1)
        return None

    def _call(self, row: ReadyRow, translations: Translations | None = None) -> None:
        """Call the consumer; without a place to collect, store what a translator made."""
        consumer = self.context.consumers.get(row.consumer)
        if consumer is None or row.type not in consumer.events:
            raise HandlerError(
                f"the context {self.context.label!r} has no consumer {row.consumer!r} of "
                f"{row.type!r} in this process; was it renamed (keep the old name with name=), or "
                "is it not deployed here yet?"
            )
        own = Translations() if translations is None else translations
        self._deliver(consumer, [row], own)
        if translations is None:
            own.store(self.context)

    def _deliver(
        self, consumer: Consumer, rows: Sequence[ReadyRow], translations: Translations
    ) -> None:
        self._calling = True
        deliver(self.context, consumer, rows, translations)
        self._calling = False

    @contextmanager
    def _committing(self, row: ReadyRow) -> Iterator[None]:
        """Open a transaction; an error of an on_commit hook, after it, is no failed attempt."""
        commit: Commit | None = None
        self._calling = False
        # A consumer that waits too long for a lock has failed like one that does not answer.
        giving_way = self.run.giving_way(waited=lambda: not self._calling)
        try:
            with giving_way, transaction.atomic(using=self.context.database):
                commit = Commit(self.context.database)
                yield
                self.run.show_life()
                faults.point("dispatch.before_commit")
        except Exception as error:
            if commit is None or not commit.done:
                raise
            announcements.hook_failed(self.context, row, error)
        faults.point("dispatch.after_commit")

    def _mark_done(self, rows: Sequence[ReadyRow]) -> None:
        """Mark deliveries as done; one that is not to be marked undoes its effects with it."""
        if rows:
            if statements.mark_done(self.run.connection, [row.id for row in rows]) < len(rows):
                raise Lost
            self._release(rows)

    def _release(self, rows: Sequence[ReadyRow]) -> None:
        """Let the followers of solved heads go."""
        pairs = [(row.consumer, row.key) for row in rows if row.holds and row.key is not None]
        if pairs:
            statements.unblock_deliveries(
                self.run.connection, self.context.label, self.run.number, pairs
            )

    def _is_blocked(self, row: ReadyRow) -> bool:
        return row.key is not None and (row.consumer, row.key) in self._blocked

    def _raise_if_lost(self, error: Exception) -> None:
        if self.run.disconnected(error):
            raise error

    def _fail(self, row: ReadyRow, error: Exception, attempts: int) -> None:
        with self.run.locked():
            verdict = self._store_failure(row, error, attempts)
        if verdict is not None:
            self._count_failure(row, verdict)

    def _store_failure(self, row: ReadyRow, error: Exception, attempts: int) -> Verdict | None:
        """Store a failed attempt in the open transaction; its followers wait from now on."""
        consumer = self.context.consumers.get(row.consumer)
        verdict = judge_attempt(error, attempts, consumer.max_attempts if consumer else None)
        skips = verdict.dead and consumer is not None and consumer.on_dead == "skip"
        holds = row.key is not None and not skips
        connection = self.run.connection
        if not verdict.store(connection, Delivery, row.id, holds=holds):
            return None  # it was done after all: the error came after the commit
        statements.insert_attempt(
            connection, row.id, attempts, verdict.error, traceback_text(error)
        )
        if holds:
            self._blocked.add((row.consumer, row.key))
        else:
            self._release([row])
        return verdict

    def _count_failure(self, row: ReadyRow, verdict: Verdict) -> None:
        self.tally.add(Outcome(dead=1) if verdict.dead else Outcome(failed=1))
        announcements.delivery_failed(self.context, row, verdict)
