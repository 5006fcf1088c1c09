"""Each delivery in a transaction of its own: the default, and what the other ways fall back on."""

from collections.abc import Hashable, Sequence
from functools import partial

from outbox_inbox.exceptions import HandlerError
from outbox_inbox.inbox.delivery import deliver_message
from outbox_inbox.queues.moments import Moment
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

    A delivery is recognised by its id, that of its message, its database, and the test that it is of:
    ids begin again in each database, and after a test that Django has rolled back.
    """

    def __init__(self) -> None:
        self._newer: set[Hashable] = set()
        self._older: set[Hashable] = set()

    def add(self, run: Run, row: ReadyRow) -> None:
        """Remember a delivery that is done."""
        self._newer.add(self._name(run, row))
        if len(self._newer) > _REMEMBERED:
            self._older, self._newer = self._newer, set()

    def has(self, run: Run, row: ReadyRow) -> bool:
        """Return whether a delivery that is ready was done before."""
        known = self._name(run, row)
        return known in self._newer or known in self._older

    @staticmethod
    def _name(run: Run, row: ReadyRow) -> Hashable:
        return row.id, row.message_id, Moment.now(run.context.database).test


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
        if _recent.has(self.run, row):
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
            _recent.add(self.run, row)
            self.call.add(Outcome(done=1))
