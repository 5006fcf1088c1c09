"""Each delivery in a transaction of its own: the default, and what the other ways fall back on."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from outbox_inbox.exceptions import HandlerError
from outbox_inbox.inbox.delivery import deliver_message
from outbox_inbox.queues.outcome import MoverCall, Outcome
from outbox_inbox.queues.run import AttemptFailed, Run
from outbox_inbox.queues.statements import ReadyRow

from .attempt import attempt, unblock_followers
from .failures import Failures

_REMEMBERED = 5_000
_UNDONE = (
    "its consumer has rolled back the transaction by itself, past Django: its effects before that are "
    "lost, and those after it were committed without the mark that it is done"
)


class _Recent:
    """Some thousands of deliveries that this process has handled last, one by one.

    A delivery is recognised by its id and that of its message: in a database made anew, ids begin again.
    """

    def __init__(self) -> None:
        self._newer: set[tuple[int, Any]] = set()
        self._older: set[tuple[int, Any]] = set()

    def add(self, row: ReadyRow) -> None:
        """Remember a delivery that is done."""
        self._newer.add((row.id, row.message_id))
        if len(self._newer) > _REMEMBERED:
            self._older, self._newer = self._newer, set()

    def has(self, row: ReadyRow) -> bool:
        """Return whether a delivery that is ready was done before."""
        known = (row.id, row.message_id)
        return known in self._newer or known in self._older


_recent = _Recent()


class OneByOne:
    """Handles deliveries one after the other."""

    def __init__(self, run: Run, call: MoverCall) -> None:
        self.run = run
        self.call = call
        self.failures = Failures(run, call)

    def handle_rows(self, rows: Sequence[ReadyRow]) -> None:
        """Handle deliveries in order, leaving out those behind a failed one."""
        for row in rows:
            if self.call.finished():
                return
            if not self.failures.blocks(row):
                self.handle_row(row)

    def handle_row(self, row: ReadyRow) -> None:
        """Handle one delivery; a failed attempt is stored in a second transaction."""
        if _recent.has(row):
            # Its mark was undone by a ROLLBACK that the watch does not see. To handle it again would
            # do so without end, and commit what the consumer does after the ROLLBACK each time.
            self.failures.fail_delivery(row, HandlerError(_UNDONE), row.attempts + 1)
            return
        try:
            with attempt(self.run, row, partial(self.run.claim, row.id)):
                deliver_message(self.run, row)
                unblock_followers(self.run, [row])
        except AttemptFailed as failed:
            attempts = row.attempts + 1
            self.failures.fail_delivery(row, failed.error, attempts, raised=failed.raised)
        else:
            _recent.add(row)
            self.call.add(Outcome(done=1))
