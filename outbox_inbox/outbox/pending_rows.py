"""The rows of the outbox as the relay sends them: due, in order, and behind no blocked head.

Messages are chosen by their state, never by a position that was reached. A transaction that took its
ids early and commits late would be skipped by a position, for ever (rule O2).
"""

from collections.abc import Mapping, Sequence
from itertools import takewhile

from outbox_inbox.exceptions import MessageRefused
from outbox_inbox.models import OutboxMessage
from outbox_inbox.queues import statements
from outbox_inbox.queues.attempts import Verdict, error_line, judge_attempt
from outbox_inbox.queues.run import Run
from outbox_inbox.queues.statements import PendingRow
from outbox_inbox.queues.statements.times import LEFT

from .batch import BatchResult, Source, within_bytes
from .unclaimed import Unclaimed

_UNMENTIONED = MessageRefused("the transport neither confirmed nor refused it")


class PendingRows(Source[PendingRow]):
    """What is due in the outbox partition of a run; ``text``: with headers and payload."""

    stored = False
    attempts_now = 1
    """How many attempts a failure of this batch adds to those that are counted already."""

    def __init__(self, run: Run, *, text: bool) -> None:
        self._run = run
        self._text = text
        self._rows: Sequence[PendingRow] = ()
        self._free: Sequence[PendingRow] = ()

    def read(self, size: int, max_bytes: int) -> Sequence[PendingRow]:
        found = self._select(size, max_bytes)
        sizes = (0 if row.blocked else row.size for row in found)
        self._rows = within_bytes(found, sizes, max_bytes)
        self.exhausted = len(self._rows) < size and len(self._rows) == len(found)
        return self._rows

    def _select(self, size: int, max_bytes: int, only: int | None = None) -> list[PendingRow]:
        place = (self._run.connection, self._run.context.label, self._run.number)
        # The texts that come with the rows are bounded together, too.
        largest = max_bytes // size if self._text else None
        return statements.select_pending(*place, size, largest=largest, only=only)

    def sendable(self, result: BatchResult) -> Sequence[PendingRow]:
        blocked = [row.id for row in self._rows if row.blocked]
        if blocked:
            # Followers of a blocked head wait, and are not met again.
            result.held = statements.park_followers(self._run.connection, OutboxMessage, blocked)
        self._free = [row for row in self._rows if not row.blocked]
        return self._free

    def end_before(self, row: PendingRow) -> None:
        self._free = list(takewhile(lambda each: each.id != row.id, self._free))
        self.exhausted = False

    def settle(
        self, sent: set[int], refused: Mapping[int, MessageRefused], result: BatchResult
    ) -> None:
        run = self._run
        if sent:
            result.sent = statements.mark_sent(run.connection, sorted(sent))
        solved = [row for row in self._free if row.holds and row.id in sent]
        keys = [row.key for row in solved if row.key is not None]
        if keys:
            statements.unblock_messages(run.connection, run.context.label, run.number, keys)
        for row in _first_of_each_key([row for row in self._free if row.id not in sent]):
            error = refused.get(row.id) or _UNMENTIONED
            if isinstance(error, Unclaimed):
                _leave_message(run, row, error, row.attempts + self.attempts_now - 1)
                result.held += 1
                continue
            result.failed += store_failure(run, row, error, row.attempts + self.attempts_now)

    def close(self) -> None:
        if self.exhausted:
            self._run.end()  # with the transaction that found no further row


class CountedRow(PendingRows):
    """One message of the careful walk, whose attempt is committed already (rule O9)."""

    attempts_now = 0

    def __init__(self, run: Run, row: PendingRow, *, text: bool) -> None:
        super().__init__(run, text=text)
        self._id = row.id

    def read(self, size: int, max_bytes: int) -> Sequence[PendingRow]:
        self._rows = self._select(size, max_bytes, self._id)
        return self._rows


def store_failure(
    run: Run, row: PendingRow, error: Exception, attempts: int
) -> list[tuple[PendingRow, Verdict]]:
    """Store a failed attempt in the open transaction; later messages of its key wait now (rule O3)."""
    verdict = judge_attempt(error, attempts)
    stored = verdict.store(run.connection, OutboxMessage, row.id, holds=row.key is not None)
    return [(row, verdict)] if stored else []


def _leave_message(run: Run, row: PendingRow, error: Unclaimed, attempts: int) -> None:
    """Leave a message, with the reason, to a process that knows what it is; no attempt is counted."""
    verdict = Verdict(dead=False, attempts=attempts, seconds=LEFT, error=error_line(error))
    verdict.store(run.connection, OutboxMessage, row.id, holds=row.key is not None)


def _first_of_each_key(rows: Sequence[PendingRow]) -> list[PendingRow]:
    """Return the messages that have failed themselves; the others are behind one of them."""
    # Two messages that both blocked one key would block each other for ever.
    first: dict[str | int, PendingRow] = {}
    for row in rows:
        first.setdefault(row.id if row.key is None else row.key, row)
    return list(first.values())
