"""The careful walk over a partition whose last worker ended without a clean end (rule O9).

Without it a message that kills its worker, by memory or a segmentation fault, is never counted as
failed: each worker that takes the partition dies of it, without end.
"""

from outbox_inbox.conf import settings
from outbox_inbox.models import Delivery
from outbox_inbox.queues import statements
from outbox_inbox.queues.attempts import crash_error
from outbox_inbox.queues.run import GaveWay
from outbox_inbox.queues.statements import ReadyRow

from .one_by_one import OneByOne


class AfterCrash(OneByOne):
    """Handles deliveries one by one, each with its attempt committed before it is touched."""

    def handle_row(self, row: ReadyRow) -> None:
        """Count the attempt, then handle the delivery; without attempts left it is dead."""
        run = self.run
        run.careful = max(run.careful - 1, 0)
        most = run.context.consumers[row.consumer].max_attempts
        if row.attempts >= (settings().max_attempts if most is None else most):
            self.failures.fail_delivery(row, crash_error(), row.attempts)
            return
        # Committed first: if the consumer kills this process too, the attempt stays counted.
        with run.locked() as connection:
            statements.count_attempt(connection, Delivery, row.id)
        try:
            super().handle_row(row)
        except GaveWay:
            # Not a crash: a deadlock, which another delivery may have caused. Without this, some of
            # them would make a healthy message dead.
            with run.locked() as connection:
                statements.count_attempt(connection, Delivery, row.id, by=-1)
            raise
