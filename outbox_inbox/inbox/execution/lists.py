"""Many events in one call, for handlers that take a list: one statement can serve them all."""

from collections.abc import Sequence

from outbox_inbox.contexts import Consumer
from outbox_inbox.inbox.delivery import Translations, call_consumer
from outbox_inbox.queues.outcome import Outcome
from outbox_inbox.queues.run import AttemptFailed
from outbox_inbox.queues.statements import ReadyRow

from .attempt import attempt, mark_done
from .one_by_one import OneByOne


class Lists:
    """Hands deliveries to list handlers."""

    def __init__(self, one_by_one: OneByOne) -> None:
        self._one_by_one = one_by_one

    def handle_list(self, consumer: Consumer, rows: Sequence[ReadyRow]) -> None:
        """Hand all deliveries of a consumer to it in one transaction, as one list.

        After a failure they are handled one by one. Those that have failed before are always
        handled so, with the others of their keys: each list with them would fail.
        """
        doubtful_keys = {row.key for row in rows if row.attempts} - {None}
        fresh: list[ReadyRow] = []
        doubtful: list[ReadyRow] = []
        for row in rows:
            (doubtful if row.attempts or row.key in doubtful_keys else fresh).append(row)
        if fresh and not self._one_by_one.call.finished():
            self._handle_fresh(consumer, fresh)
        self._one_by_one.handle_rows(doubtful)

    def _handle_fresh(self, consumer: Consumer, rows: Sequence[ReadyRow]) -> None:
        run = self._one_by_one.run
        try:
            with attempt(run, rows[-1], run.lock):
                call_consumer(run.context, consumer, rows, Translations())
                mark_done(run, rows)
        except AttemptFailed:
            self._one_by_one.handle_rows(rows)
        else:
            self._one_by_one.call.add(Outcome(done=len(rows)))
