"""A busy partition does not keep a mover from the others: each has a turn, and then the next one."""

from itertools import count

import pytest

from outbox_inbox import tasks
from outbox_inbox.contexts import get_context
from outbox_inbox.models import Delivery, OutboxMessage, Queue
from outbox_inbox.operations import drain
from outbox_inbox.operations.running import run
from outbox_inbox.queues import outcome
from outbox_inbox.queues.partitions import partition_statuses
from tests.shop.contracts import Sold
from tests.shop.events import Checked, Counted, Loose, Noted
from tests.support.movers import (
    come_due,
    crash,
    crashing,
    deliver,
    delivery_states,
    dispatch,
    entries,
    eventually,
    leave_token,
    picks,
    put,
    receive,
    relay,
    steps,
    striking,
)
from tests.support.outgoing import numbers, publish_numbers
from tests.support.relaying import out_of_reach, sold
from tests.support.script import playing
from tests.support.wire import take_all

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def slow(monkeypatch):
    """Let more time than a turn pass between any two looks at the clock."""
    times = count()
    monkeypatch.setattr(outcome, "monotonic", lambda: next(times) * outcome.TURN)


@pytest.fixture
def frozen(monkeypatch):
    """Let the clock stand still."""
    monkeypatch.setattr(outcome, "monotonic", lambda: 0.0)


def seen(queue, label="shop"):
    """Return the partitions of a queue, as the process that calls the mover sees them."""
    return partition_statuses(get_context(label), queue)


def attempts(model):
    """Return the attempts that are counted for the rows of a queue, in order."""
    return list(model.objects.order_by("id").values_list("attempts", flat=True))


# Each mover


def test_a_busy_key_does_not_keep_other_partitions_waiting(slow):
    """Each of them has a turn in the same sweep; the busy one is finished later."""
    deliver(*steps(Noted, 20))
    others = [f"other {number}" for number in range(8)]
    for order in others:
        deliver(Noted(order=order, number=1))
    busy = Delivery.objects.filter(message__key="a").values_list("partition", flat=True)[0]
    elsewhere = Delivery.objects.exclude(partition=busy)
    partitions = set(elsewhere.values_list("partition", flat=True))

    dispatch(seen=seen(Queue.INBOX))

    assert set(elsewhere.filter(state="done").values_list("partition", flat=True)) == partitions
    assert 0 < len(entries()) < 20


def test_a_call_without_a_look_goes_on_until_everything_is_done(slow):
    """Turns change the order among partitions, never what is done in the end."""
    deliver(*steps(Noted, 20), *steps(Noted, 20, order="b"))
    dispatch()
    assert (entries(), entries(order="b")) == ([*range(1, 21)], [*range(1, 21)])
    assert set(delivery_states()) == {"done"}


def test_a_relay_leaves_its_outbox_after_a_turn(slow, settings):
    """The movers behind it come to their turn while the outbox is still full."""
    settings.OUTBOX_INBOX = {"BATCH_SIZE": 2}
    put(*steps(Noted, 10))
    assert relay(seen=seen(Queue.OUTBOX)).done == 2
    assert relay().done == 8


def test_a_turn_ends_with_a_clean_end_of_the_run(slow):
    """So the next worker does not take it for a crash, and reads ahead as usual."""
    deliver(*steps(Loose, 5))
    dispatch(seen=seen(Queue.INBOX))
    assert not any(each.run for each in seen(Queue.INBOX))


STREAM = {"CONTEXTS": {"shop": {"source": "stream"}}}


@pytest.mark.catch_up
def test_a_relay_leaves_its_stream_after_a_turn(slow, settings):
    """The stream can be as long as a whole history."""
    settings.OUTBOX_INBOX = {**STREAM, "BATCH_SIZE": 2}
    put(*steps(Noted, 10))
    assert relay(seen=seen(Queue.OUTBOX)).done == 2
    assert relay().done == 8


def receive_while_more_come(settings):
    """Give the receiver one turn in which each batch is followed by another; return what was received."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "BATCH_SIZE": 1}
    receive()  # the depot has its place in the transport
    publish_numbers(1, 3)
    further = count(4)

    def publish_another(done):
        number = next(further)
        assert number < 10, "the receiver does not leave the intake"
        publish_numbers(number, number)

    partitions = seen(Queue.INTAKE, "depot")
    eventually(lambda: receive(seen=partitions, progress=publish_another).done, "a message")
    return numbers()


@pytest.mark.redis
def test_a_receiver_leaves_a_redis_stream_that_is_never_empty_after_a_turn(slow, settings, bus):
    """What it has received would otherwise wait for the day on which nothing comes."""
    assert receive_while_more_come(settings) == [1]


@pytest.mark.rabbitmq
def test_a_receiver_leaves_a_queue_of_rabbitmq_that_is_never_empty_after_a_turn(
    slow, settings, rabbit
):
    """As it leaves a stream of Redis."""
    assert receive_while_more_come(settings) == [1]


# Rows

ROWS = outcome.TURN_BATCHES


@pytest.fixture
def single(frozen, settings):
    """Batches of one message, on a clock that stands still."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": "memory://"}, "BATCH_SIZE": 1}


def test_a_turn_of_the_relay_ends_after_so_many_batches(single):
    """Also on a clock that stands still."""
    put(*steps(Noted, ROWS + 5))
    assert relay(seen=seen(Queue.OUTBOX)).done == ROWS


def test_a_turn_of_the_dispatcher_ends_after_so_many_batches(single):
    """As one of the relay."""
    deliver(*steps(Counted, ROWS + 5))
    assert dispatch(seen=seen(Queue.INBOX)).done == ROWS


def test_a_turn_of_the_receiver_ends_after_so_many_batches(single):
    """As one of the relay."""
    deliver(*steps(Sold, ROWS + 5))
    assert receive(seen=seen(Queue.INTAKE, "depot")).done == ROWS


@pytest.mark.catch_up
def test_a_turn_of_the_relay_of_a_stream_ends_after_so_many_batches(single, settings):
    """As one of the relay of an outbox."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, **STREAM}
    put(*steps(Noted, ROWS + 5))
    assert relay(seen=seen(Queue.OUTBOX)).done == ROWS


# After a crash


WALKS = pytest.mark.parametrize(
    ("queue", "model", "mover", "point"),
    [
        (Queue.OUTBOX, OutboxMessage, relay, "relay.after_publish"),
        (Queue.INBOX, Delivery, dispatch, "dispatch.after_claim"),
    ],
    ids=["relay", "dispatcher"],
)


def crash_next(queue, mover, point):
    """Let the mover crash in its next turn, at a message."""
    with crashing(), striking(point, crash):
        mover(seen=seen(queue))


def prepare(queue, amount):
    """Leave a queue of the shop with messages of one key as a worker that was killed leaves it."""
    (put if queue == Queue.OUTBOX else deliver)(*steps(Counted, amount))
    leave_token(queue)


@WALKS
def test_a_careful_walk_ends_with_its_turn(slow, queue, model, mover, point):
    """Its transactions are the slowest, so the others would wait longest for it."""
    prepare(queue, 3)
    assert [mover(seen=seen(queue)).done for _ in range(3)] == [1, 1, 1]
    assert mover(seen=seen(queue)) == outcome.Outcome()


@WALKS
def test_a_careful_walk_goes_on_in_the_next_turn(slow, queue, model, mover, point):
    """Rule O9: a turn that forgot the crash would end each walk before the guilty message."""
    prepare(queue, 4)
    mover(seen=seen(queue))
    crash_next(queue, mover, point)
    assert attempts(model) == [1, 1, 0, 0]


@WALKS
def test_a_careful_walk_is_over_after_as_many_messages_as_a_batch(
    slow, settings, queue, model, mover, point
):
    """Or two in an inbox, however many turns they took: the others are moved together again."""
    settings.OUTBOX_INBOX = {"BATCH_SIZE": 2}
    walk = 2 if queue == Queue.OUTBOX else 4
    prepare(queue, walk + 3)
    for _ in range(walk):
        mover(seen=seen(queue))
    crash_next(queue, mover, point)
    assert attempts(model) == [1] * walk + [0, 0, 0]


# Among contexts and kinds of work


class Busy:
    """An inbox of the shop that takes twenty turns; ``left``: what was left of it when something came."""

    def __init__(self):
        deliver(*steps(Noted, 20))
        self.left = []

    def note(self, *_):
        """Note how much is left: a part for a consumer."""
        self.left.append(delivery_states("note").count("ready"))


@pytest.fixture
def busy(slow):
    """A busy inbox, on a clock on which each turn is one message."""
    return Busy()


def run_until_idle(**options):
    """Run the shop and the depot as a process does, until its first pause."""
    pauses = []
    chosen = [get_context("shop"), get_context("depot")]
    run(chosen, stop=lambda: bool(pauses), wait=pauses.append, **options)


def record_checked(event):
    """Record another event with the first one that is handled."""
    if event.number == 1:
        put(Checked(order="a", number=1))


def test_a_process_relays_and_serves_other_contexts_beside_a_busy_inbox(busy):
    """What a handler records goes to another context and is handled there meanwhile."""
    with playing(note=record_checked, pick=busy.note):
        run_until_idle()
    assert picks() == [1]
    assert busy.left[0] > 10


def test_a_process_tries_a_transport_again_beside_a_busy_inbox(slow, log):
    """It is back again before the inbox is empty, and so are the messages for it."""
    busy = Busy()
    sold(1)
    with playing(publish=out_of_reach):
        relay()

    def publish(messages):
        busy.note()
        return take_all(messages)

    with playing(publish=publish):
        run_until_idle(report=lambda turn: come_due())
    assert log.all() == [("a", 1)]
    assert busy.left[0] > 10


def test_a_drain_gives_each_mover_and_context_its_turn(busy):
    """A drain of an inbox that is fed as fast as it is worked off would otherwise be of it alone."""
    with playing(note=record_checked, pick=busy.note):
        drain()
    assert picks() == [1]
    assert busy.left[0] > 10


@pytest.fixture
def shop_first(monkeypatch):
    """Let tasks begin with the shop."""

    def order(chosen, size):
        return sorted(chosen, key=lambda each: each.label != "shop")[:size]

    monkeypatch.setattr(tasks.random, "sample", order)


def test_a_task_gives_each_context_its_turn(busy, shop_first):
    """The other contexts do not wait for the inbox of the first one."""
    put(Sold(order="a", number=1))
    relay()
    with playing(watch=busy.note):
        tasks.dispatch_inbox()
    assert busy.left[0] > 10
    assert set(delivery_states()) == {"done"}


def test_tasks_that_have_no_time_for_all_contexts_serve_each_of_them_in_the_end(busy, monkeypatch):
    """They begin with another one each time; in a fixed order, the last would never be served."""
    now = [0.0]

    def take_all_the_time(event):
        now[0] += 1_000

    monkeypatch.setattr(tasks, "monotonic", lambda: now[0])
    put(Sold(order="a", number=1))
    relay()
    with playing(note=take_all_the_time, watch=busy.note):
        while "ready" in delivery_states():
            tasks.dispatch_inbox()
    assert busy.left[0] > 0


def test_a_sweep_begins_with_the_partition_that_has_waited_longest():
    """One that a limit or the time of a task cuts off would otherwise serve the first ones only."""
    for order in "abcdefgh":
        deliver(*steps(Counted, 4, order))
    partitions = set(Delivery.objects.values_list("partition", flat=True))
    assert len(partitions) > 2
    for _ in partitions:
        assert dispatch(limit=1).done == 1
    done = Delivery.objects.filter(state="done").values_list("partition", flat=True)
    assert set(done) == partitions
