"""Each delivery in a transaction of its own: the default, and what the other ways fall back on."""

from collections.abc import Sequence
from functools import partial

from outbox_inbox.exceptions import HandlerError
from outbox_inbox.inbox.delivery import deliver_message
from outbox_inbox.queues.outcome import MoverCall, Outcome
from outbox_inbox.queues.run import AttemptFailed, Run
from outbox_inbox.queues.statements import ReadyRow

from .attempt import attempt, unblock_followers
from .failures import Failures
from .handled import handled

_UNDONE = (
    "its consumer has rolled back the transaction by itself, past Django: its effects before that are "
    "lost, and those after it were committed without the mark that it is done"
)


class OneByOne:
    """Handles deliveries one after the other."""

    def __init__(self, run: Run, call: MoverCall) -> None:
        self.run = run
        self.call = call
        self.failures = Failures(run, call)
        self.handled = handled(run.connection)

    def handle_rows(self, rows: Sequence[ReadyRow]) -> None:
        """Handle deliveries in order, leaving out those behind a failed one."""
        for row in rows:
            if self.call.finished():
                return
            if not self.failures.blocks(row):
                self.handle_row(row)

    def handle_row(self, row: ReadyRow) -> None:
        """Handle one delivery; a failed attempt is stored in a second transaction."""
        if self.handled.has(row):
            # To handle it again would do so without end, and each time commit what the consumer does
            # after its ROLLBACK.
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
            self.handled.add(row)
            self.call.add(Outcome(done=1))
