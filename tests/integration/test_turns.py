"""A busy partition does not keep a mover from the others: each has a turn, and then the next one."""

from itertools import count

import pytest

from outbox_inbox.contexts import get_context
from outbox_inbox.models import Delivery, OutboxMessage, Queue
from outbox_inbox.queues import outcome
from outbox_inbox.queues.partitions import partition_statuses
from tests.shop.events import Loose, Noted
from tests.support.movers import (
    deliver,
    delivery_states,
    dispatch,
    entries,
    leave_token,
    put,
    relay,
    states,
    steps,
)

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def slow(monkeypatch):
    """Let more time than a turn pass between any two looks at the clock."""
    times = count()
    monkeypatch.setattr(outcome, "monotonic", lambda: next(times) * outcome.TURN)


def seen(queue):
    """Return the partitions of a queue of the shop, as the process that calls the mover sees them."""
    return partition_statuses(get_context("shop"), queue)


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


def test_a_careful_walk_is_not_cut_off_by_the_end_of_a_turn(slow, settings):
    """A clean end in the middle of it would forget the crash before the guilty message is met."""
    settings.OUTBOX_INBOX = {"BATCH_SIZE": 5}
    put(*steps(Noted, 5))
    leave_token(Queue.OUTBOX)
    assert relay(seen=seen(Queue.OUTBOX)).done == 5
    assert states(OutboxMessage) == ["sent"] * 5
