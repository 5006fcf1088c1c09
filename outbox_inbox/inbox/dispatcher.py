"""The dispatcher: hands the messages of an inbox to their consumers, one worker a partition.

Deliveries are read ahead in order; their followers behind a blocked head are set to wait when they
are met. How each is handled is the matter of ``execution.py``.
"""

from collections.abc import Callable, Sequence

from outbox_inbox.contexts import Context
from outbox_inbox.models import Delivery, Queue
from outbox_inbox.queues import statements
from outbox_inbox.queues.outcome import MoverCall, Outcome, ignore, never
from outbox_inbox.queues.partitions import PartitionStatuses
from outbox_inbox.queues.run import Lost, Run
from outbox_inbox.queues.statements import ReadyRow
from outbox_inbox.queues.sweep import sweep_partitions

from .execution import Executor


def dispatch_inbox(
    context: Context,
    *,
    limit: int | None = None,
    stop: Callable[[], bool] = never,
    progress: Callable[[int], None] = ignore,
    seen: PartitionStatuses | None = None,
) -> Outcome:
    """Handle what is due in the inbox, until nothing is left to be handled now.

    Transactions are those of the consumers (``@handles(transaction=...)``), on the context's
    database. May be called by any number of processes at once: each partition has one of them
    at a time.

    Arguments:
        limit: handle at most so many deliveries; default: until empty.
        stop: asked between transactions; true ends the call.
        progress: told how many deliveries each transaction has handled.
        seen: go over these partitions, once; default: look, until there is nothing left.

    Raises:
        SettingsError: the inbox has to be repartitioned first.
        django.db.OperationalError: the context's database is out of reach; nothing is lost.
    """
    tally = MoverCall(limit, stop, progress)
    return sweep_partitions(context, Queue.INBOX, _dispatch, tally, seen)


def _dispatch(run: Run, tally: MoverCall) -> None:
    """Handle what one partition has."""
    try:
        more = True
        while more and not tally.finished():
            size = tally.batch_size()
            rows = _read_ahead(run, size)
            _park(run, [row.id for row in rows if row.blocked], tally)
            _handle(run, [row for row in rows if not row.blocked], tally)
            # What came in meanwhile is seen by the look that follows every run.
            more = len(rows) == size
    except Lost:
        tally.add(Outcome(busy=1))


def _read_ahead(run: Run, size: int) -> list[ReadyRow]:
    """Return what is to be handled next, in order.

    Reading needs no lock: whatever is done with a row checks, under the lock, that nobody else has
    been there since.
    """
    if run.promotes():
        with run.locked():
            run.promote(Delivery)
    return statements.select_ready(run.connection, run.context.label, run.number, size)


def _park(run: Run, followers: Sequence[int], tally: MoverCall) -> None:
    """Let the followers of blocked heads wait, unless somebody has solved one since (`Lost`)."""
    if followers:
        with run.locked() as connection:
            held = statements.park_followers(connection, Delivery, followers)
        tally.add(Outcome(held=held))


def _handle(run: Run, rows: Sequence[ReadyRow], tally: MoverCall) -> None:
    """Hand each delivery to the way its consumer chose; order within a consumer is kept."""
    executor = Executor(run, tally)
    if run.careful:
        executor.each(rows, executor.carefully)
        return
    by_mode: dict[str, list[ReadyRow]] = {"message": [], "batch": []}
    lists: dict[str, list[ReadyRow]] = {}
    for row in rows:
        consumer = run.context.consumers.get(row.consumer)
        if consumer is not None and consumer.mode == "list":
            lists.setdefault(row.consumer, []).append(row)
        else:
            by_mode["message" if consumer is None else consumer.mode].append(row)
    executor.together(by_mode["batch"])
    for name, group in lists.items():
        executor.as_list(run.context.consumers[name], group)
    executor.each(by_mode["message"], executor.alone)
