"""Failed attempts: stored with their delivery, and remembered for what was read ahead behind it.

Without the memory, the followers of a failed head that were read ahead with it would overtake it.
"""

from collections.abc import Iterable
from typing import NamedTuple

from outbox_inbox.exceptions import HandlerError, NewerVersion
from outbox_inbox.inbox.unknown import note_newer_state
from outbox_inbox.models import Delivery
from outbox_inbox.queues import announcements, statements
from outbox_inbox.queues.attempts import Verdict, error_line, judge_attempt, traceback_text
from outbox_inbox.queues.outcome import MoverCall, Outcome
from outbox_inbox.queues.run import Run
from outbox_inbox.queues.statements import ReadyRow
from outbox_inbox.queues.statements.times import LEFT

from .attempt import unblock_followers


class Failure(NamedTuple):
    """A failed attempt as it was stored.

    Fields:
        blocks: later deliveries of its key wait for it.
        left: it does not count as an attempt, since newer code can handle it.
    """

    row: ReadyRow
    verdict: Verdict
    blocks: bool
    left: bool = False


class Failures:
    """The failed attempts among the deliveries of one read-ahead, and the keys they block."""

    def __init__(self, run: Run, call: MoverCall) -> None:
        self._run = run
        self._call = call
        self._blocked: set[tuple[str, str | None]] = set()

    def blocks(self, row: ReadyRow) -> bool:
        """Return whether a delivery has to wait for one that failed before it."""
        return (row.consumer, row.key) in self._blocked

    def unblocked(self, rows: Iterable[ReadyRow]) -> list[ReadyRow]:
        """Return the deliveries that do not have to wait."""
        return [row for row in rows if not self.blocks(row)]

    def fail_delivery(
        self, row: ReadyRow, error: Exception, attempts: int, *, raised: bool = False
    ) -> None:
        """Store a failed attempt in a transaction of its own, and report it.

        ``raised``: the consumer has raised the error. If the delivery is done all the same, the consumer
        has committed that by itself, and has failed afterwards.
        """
        with self._run.locked() as connection:
            failure = self.store_failure(row, error, attempts)
            if failure is None and raised and statements.reopen_delivery(connection, row.id):
                text = (
                    f"it committed its transaction by itself, and failed then: {error_line(error)}"
                )
                failure = self.store_failure(row, HandlerError(text), attempts)
        if failure is not None:
            self.report_failure(failure)

    def store_failure(self, row: ReadyRow, error: Exception, attempts: int) -> Failure | None:
        """Store a failed attempt in the open transaction, which has the partition lock.

        Return what to report after the commit; None: the delivery is final already.
        """
        run = self._run
        if isinstance(error, NewerVersion):
            return self._leave_delivery(row, error)
        consumer = run.context.consumers[row.consumer]
        verdict = judge_attempt(error, attempts, consumer.max_attempts)
        skips = verdict.dead and consumer.on_dead == "skip"
        blocks = row.key is not None and not skips
        with run.giving_way():
            # The error came after the commit (the connection broke on the answer): it is done.
            if not verdict.store(run.connection, Delivery, row.id, holds=blocks):
                return None
            statements.insert_attempt(
                run.connection, row.id, attempts, verdict.error, traceback_text(error)
            )
        if not blocks:
            unblock_followers(run, [row])
        return Failure(row, verdict, blocks)

    def _leave_delivery(self, row: ReadyRow, error: NewerVersion) -> Failure | None:
        """Leave a delivery whose process has a state of newer code to a process that can read it."""
        text = error_line(error)
        verdict = Verdict(dead=False, attempts=row.attempts, seconds=LEFT, error=text)
        blocks = row.key is not None
        with self._run.giving_way():
            if not verdict.store(self._run.connection, Delivery, row.id, holds=blocks):
                return None
        note_newer_state(self._run.context, row, error)
        return Failure(row, verdict, blocks, left=True)

    def report_failure(self, failure: Failure) -> None:
        """Block the key, count and announce a failed attempt, after the commit that stored it."""
        row, verdict, blocks, left = failure
        if blocks:
            self._blocked.add((row.consumer, row.key))
        if left:
            self._call.add(Outcome(held=1))
            return
        self._call.add(Outcome(dead=1) if verdict.dead else Outcome(failed=1))
        announcements.delivery_failed(self._run.context, row, verdict)
