"""Many deliveries in one transaction, which saves a commit and a claim for each of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db import transaction

from outbox_inbox.conf import settings
from outbox_inbox.conf.clock import monotonic
from outbox_inbox.inbox.delivery import Translations, deliver_message, deliver_row
from outbox_inbox.queues.outcome import Outcome
from outbox_inbox.queues.run import AttemptFailed, Lost, Run, ends_worker
from outbox_inbox.queues.statements import ReadyRow

from .attempt import attempt, mark_done, raise_outage
from .failures import Failure, Failures
from .one_by_one import OneByOne


def handle_batches(one_by_one: OneByOne, rows: Sequence[ReadyRow]) -> None:
    """Handle deliveries, a transaction each until BATCH_TIME is up.

    At first without savepoints, after a failure with one for each delivery.
    """
    call, failures = one_by_one.call, one_by_one.failures
    left = failures.unblocked(rows)
    while left and not call.finished():
        batch = _try_batch(one_by_one, left, savepoints=False) or _try_batch(
            one_by_one, left, savepoints=True
        )
        if batch is None:
            # No savepoint helps when the COMMIT fails, for example by a deferred constraint.
            one_by_one.handle_rows(left)
            return
        call.add(Outcome(done=len(batch.done)))
        for failure in batch.failed:
            failures.report_failure(failure)
        left = failures.unblocked(left[batch.taken :])


def _try_batch(
    one_by_one: OneByOne, rows: Sequence[ReadyRow], *, savepoints: bool
) -> "_Batch | None":
    """Handle a batch in one transaction; None: it failed, and nothing has happened."""
    run = one_by_one.run
    deadline = monotonic() + settings().batch_time.total_seconds()
    batch = _Batch(run, one_by_one.failures, deadline, savepoints)
    try:
        with attempt(run, rows[-1], run.lock), transaction.atomic(using=run.context.database):
            # The savepoint: it is gone when a consumer has ended the transaction by itself, and with it the
            # effects of the deliveries before, which must not be marked.
            batch.handle_rows(rows)
    except AttemptFailed:
        return None
    return batch


@dataclass(slots=True)
class _Batch:
    """What one transaction does; it is counted and announced after the commit."""

    run: Run
    failures: Failures
    deadline: float
    savepoints: bool
    taken: int = 0
    done: list[ReadyRow] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    _blocked: set[tuple[str, str | None]] = field(default_factory=set)

    def handle_rows(self, rows: Sequence[ReadyRow]) -> None:
        """Handle deliveries until they or the time is used up."""
        translations = Translations()
        for row in rows:
            self.taken += 1
            if (row.consumer, row.key) in self._blocked:
                continue
            # What has failed before may well fail again: its savepoint spares the others a rollback.
            if self.savepoints or row.attempts:
                self._handle_in_savepoint(row)
            else:
                deliver_row(self.run.context, row, translations)
                self.done.append(row)
            if monotonic() > self.deadline:
                break
        translations.store(self.run)
        mark_done(self.run, self.done)

    def _handle_in_savepoint(self, row: ReadyRow) -> None:
        """Handle one delivery; when it fails, its effects alone are undone."""
        try:
            with transaction.atomic(using=self.run.context.database):
                deliver_message(self.run, row)
        except Lost:
            raise
        except Exception as error:
            if self.run.disconnected(error) or ends_worker(error):
                raise
            raise_outage(self.run, error)
            failure = self.failures.store_failure(row, error, row.attempts + 1)
            if failure is None:  # an operator has discarded it since it was read
                raise Lost from None
            self.failed.append(failure)
            if failure.blocks:
                self._blocked.add((row.consumer, row.key))
        else:
            self.done.append(row)
