"""The dispatcher: hands the messages of an inbox to their consumers, one worker a partition.

Deliveries are read ahead in order; their followers behind a blocked head are set to wait when they
are met. How each is handled is the matter of ``execution.py``.
"""

from collections.abc import Callable, Sequence

from . import statements
from .contexts import Context
from .execution import Executor
from .models import Delivery, Queue
from .partitions import Lost, Run, sweep
from .statements import Ready
from .tally import Outcome, Tally, ignore, never


def dispatch_inbox(
    context: Context,
    *,
    limit: int | None = None,
    stop: Callable[[], bool] = never,
    progress: Callable[[int], None] = ignore,
) -> Outcome:
    """Handle what is due in the inbox, until nothing is left to be handled now.

    Transactions are those of the consumers (``@handles(transaction=...)``), on the context's
    database. May be called by any number of processes at once: each partition has one of them
    at a time.

    Arguments:
        limit: handle at most so many deliveries; default: until empty.
        stop: asked between transactions; true ends the call.
        progress: told how many deliveries each transaction has handled.

    Raises:
        SettingsError: the inbox has to be repartitioned first.
        django.db.OperationalError: the context's database is out of reach; nothing is lost.
    """
    tally = Tally(limit, stop, progress)
    return sweep(context, Queue.INBOX, _dispatch, tally)


def _dispatch(run: Run, tally: Tally) -> None:
    """Handle what one partition has."""
    try:
        while not (run.ended or tally.finished()):
            _handle(run, _read_ahead(run, tally), tally)
    except Lost:
        tally.add(Outcome(busy=1))


def _read_ahead(run: Run, tally: Tally) -> list[Ready]:
    label, held = run.context.label, 0
    with run.locked() as connection:
        statements.promote(connection, Delivery, label, run.number)
        rows = statements.select_ready(connection, label, run.number, tally.size())
        blocked = [row.id for row in rows if row.blocked]
        if blocked:
            held = statements.park(connection, Delivery, blocked)
        if not rows:
            run.end()
    tally.add(Outcome(held=held))
    return [row for row in rows if not row.blocked]


def _handle(run: Run, rows: Sequence[Ready], tally: Tally) -> None:
    """Hand each delivery to the way its consumer chose; order within a consumer is kept."""
    executor = Executor(run, tally)
    if run.careful:
        executor.each(rows, executor.carefully)
        return
    by_mode: dict[str, list[Ready]] = {"message": [], "batch": []}
    lists: dict[str, list[Ready]] = {}
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
