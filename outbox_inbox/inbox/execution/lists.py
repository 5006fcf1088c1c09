"""Many events in one call, for handlers that take a list: one statement can serve them all."""

from collections.abc import Sequence

from django.db import transaction

from outbox_inbox.contexts import Consumer
from outbox_inbox.inbox.delivery import Translations, call_consumer
from outbox_inbox.queues.outcome import Outcome
from outbox_inbox.queues.run import AttemptFailed
from outbox_inbox.queues.statements import ReadyRow

from .attempt import attempt, mark_done
from .one_by_one import OneByOne


def handle_list(one_by_one: OneByOne, consumer: Consumer, rows: Sequence[ReadyRow]) -> None:
    """Hand all deliveries of a consumer to it in one transaction, as one list.

    After a failure they are handled one by one. Those that have failed before are always handled so,
    with the others of their keys: each list with them would fail.
    """
    run, call = one_by_one.run, one_by_one.call
    doubtful_keys = {row.key for row in rows if row.attempts} - {None}
    fresh: list[ReadyRow] = []
    doubtful: list[ReadyRow] = []
    for row in rows:
        (doubtful if row.attempts or row.key in doubtful_keys else fresh).append(row)
    if fresh and not call.finished():
        try:
            # The savepoint is gone when the consumer has ended the transaction by itself.
            with attempt(run, fresh[-1], run.lock), transaction.atomic(using=run.context.database):
                call_consumer(run.context, consumer, fresh, Translations())
                mark_done(run, fresh)
        except AttemptFailed:
            one_by_one.handle_rows(fresh)
        else:
            call.add(Outcome(done=len(fresh)))
    one_by_one.handle_rows(doubtful)
