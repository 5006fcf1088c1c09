"""The careful walk over a partition whose last worker ended without a clean end (rule O9).

Without it a message that kills its worker, by memory or a segmentation fault, is never counted as
failed: each worker that takes the partition dies of it, without end.
"""

from collections.abc import Sequence

from django.db import Error as DatabaseError

from outbox_inbox.conf import settings
from outbox_inbox.models import Delivery
from outbox_inbox.queues import statements
from outbox_inbox.queues.attempts import MOST_CRASHES, crash_error
from outbox_inbox.queues.run import GaveWay
from outbox_inbox.queues.statements import ReadyRow

from .one_by_one import OneByOne


class AfterCrash(OneByOne):
    """Handles deliveries one by one, each with its attempt committed before it is touched."""

    def handle_rows(self, rows: Sequence[ReadyRow]) -> None:
        """Handle deliveries in order; those in which a worker has ended before come last.

        One that ends this worker as well would otherwise keep it from all others of the partition.
        """
        suspects = [row for row in rows if row.attempts and not row.failed]
        keys = {(row.consumer, row.key) for row in suspects if row.key is not None}
        known = {row.id for row in suspects}
        others = [
            row for row in rows if row.id not in known and (row.consumer, row.key) not in keys
        ]
        super().handle_rows([*others, *suspects])

    def handle_row(self, row: ReadyRow) -> None:
        """Count the attempt, then handle the delivery; after some crashes it backs off."""
        run = self.run
        run.careful = max(run.careful - 1, 0)
        most = run.context.consumers[row.consumer].max_attempts
        most = settings().max_attempts if most is None else most
        if row.attempts >= min(MOST_CRASHES, most) and not row.failed:
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
            run.uncount_attempt(Delivery, row.id)
            raise
        except DatabaseError:
            if run.connected():  # an outage; a lost connection may be the consumer's work
                run.uncount_attempt(Delivery, row.id)
            raise
