"""The dispatcher: hands the messages of an inbox to their consumers, one worker per partition.

Deliveries are read ahead in order, without a lock: whatever is done with one checks, under the
partition lock, that no other worker has had the partition since.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter

from outbox_inbox.contexts import Context
from outbox_inbox.models import Delivery, Queue
from outbox_inbox.queues import statements
from outbox_inbox.queues.calls import begin_call
from outbox_inbox.queues.outcome import MoverCall, Outcome, ignore, never
from outbox_inbox.queues.partitions import PartitionStatuses
from outbox_inbox.queues.run import Run
from outbox_inbox.queues.statements import ReadyRow
from outbox_inbox.queues.sweep import sweep_partitions

from .execution import AfterCrash, OneByOne, handle_batches, handle_list
from .fair_order import FairOrder
from .unknown import leave_unknown, unknown_types


def dispatch_inbox(
    context: Context,
    *,
    limit: int | None = None,
    stop: Callable[[], bool] = never,
    progress: Callable[[int], None] = ignore,
    seen: PartitionStatuses | None = None,
    once: bool = False,
) -> Outcome:
    """Handle the due deliveries of an inbox, until none is left that can be handled now.

    Transactions are those of the consumers (``@handles(transaction=...)``), on the context's
    database. May be called by any number of processes at once: each partition has one of them
    at a time.

    Arguments:
        limit: handle at most so many deliveries; default: until empty.
        stop: asked between transactions; true ends the call.
        progress: called with how many deliveries each transaction has handled.
        seen: visit these partitions, once; default: all that have something due, until none has.
        once: visit all that have something due, for one turn each; the caller calls again.

    Raises:
        SettingsError: the inbox has to be repartitioned first.
        django.db.OperationalError: the context's database is out of reach; nothing is lost.
    """
    call = begin_call(context, limit, stop, progress)
    return sweep_partitions(context, Queue.INBOX, _dispatch_partition, call, seen, once=once)


def _dispatch_partition(run: Run, call: MoverCall) -> None:
    more, order = True, FairOrder(run)
    while more and not call.finished():
        if run.promotes():  # deliveries that have come due
            with run.locked():
                run.promote(Delivery)
        size = call.batch_size()
        rows = order.read(size, unknown_types(run.context))
        _park_followers(run, [row.id for row in rows if row.blocked], call)
        _handle_rows(run, leave_unknown(run, [row for row in rows if not row.blocked]), call)
        # What came in since this read is found by the sweep, which asks again after each run.
        more = len(rows) == size
    order.close(cut_off=call.finished())


def _park_followers(run: Run, followers: Sequence[int], call: MoverCall) -> None:
    """Set the followers of blocked heads to wait: a long queue of them is then read only once."""
    if followers:
        # The lock fails when a head was retried or discarded meanwhile: nothing would wake them.
        with run.locked() as connection:
            held = statements.park_followers(connection, Delivery, followers)
        call.add(Outcome(held=held))


def _handle_rows(run: Run, rows: Sequence[ReadyRow], call: MoverCall) -> None:
    """Hand each delivery to the way its consumer chose; order within a consumer is kept."""
    if run.careful:
        AfterCrash(run, call).handle_rows(rows)
        return
    # The way whose first delivery comes first begins, or slow ones of another would always be before it.
    ways: dict[tuple[str, str], list[ReadyRow]] = {}
    for row in rows:
        way = run.context.consumers[row.consumer].mode
        ways.setdefault((way, row.consumer if way == "list" else ""), []).append(row)
    one_by_one = OneByOne(run, call)
    for (mode, name), group in ways.items():
        if mode == "message":
            one_by_one.handle_rows(group)
        elif mode == "batch":
            handle_batches(one_by_one, group)
        else:
            in_order = sorted(group, key=attrgetter("id"))  # one call: no key is before another
            handle_list(one_by_one, run.context.consumers[name], in_order)
