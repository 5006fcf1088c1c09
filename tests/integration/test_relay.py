"""The relay: everything that was recorded is sent, in order, by one relay at a time."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from outbox_inbox import record, signals
from outbox_inbox.contexts import get_context
from outbox_inbox.models import InboxMessage, OutboxMessage, Queue
from outbox_inbox.operations import pause, repartition, resume
from outbox_inbox.queues import outcome
from outbox_inbox.queues import run as run_module
from outbox_inbox.testing import advance
from tests.shop.contracts import Sold
from tests.shop.events import Loose, Noted, Unheard
from tests.support.movers import Worker, come_due, put, relay, states, steps, together
from tests.support.relaying import not_number, partition, row, sold
from tests.support.script import playing
from tests.support.wire import WIRE, take_all

pytestmark = pytest.mark.usefixtures("committed")


# In order, and all of it


def test_messages_are_sent_in_the_order_in_which_they_were_recorded(log):
    """Over several transactions, and several batches."""
    for number in range(1, 8):
        sold(number)
    relay()
    assert log.of("a") == [1, 2, 3, 4, 5, 6, 7]
    assert set(states()) == {"sent"}


def test_a_batch_takes_no_more_than_its_size(log, settings):
    """BATCH_SIZE bounds what is done again after a crash."""
    settings.OUTBOX_INBOX = {**WIRE, "BATCH_SIZE": 3}
    sold(*range(1, 8))
    batches = []
    relay(progress=batches.append)
    assert batches == [3, 3, 1]
    assert log.of("a") == [1, 2, 3, 4, 5, 6, 7]


def test_a_limit_is_kept(log):
    """``limit`` counts messages, and leaves the partition with a clean end."""
    sold(*range(1, 8))
    assert relay(limit=3).done == 3
    assert log.of("a") == [1, 2, 3]
    assert partition().run is None


def test_the_relay_stops_between_batches_when_it_is_told_to(log, settings):
    """What it has begun is finished, and the partition is left with a clean end."""
    settings.OUTBOX_INBOX = {**WIRE, "BATCH_SIZE": 2}
    sold(*range(1, 8))
    batches = []
    relay(progress=batches.append, stop=lambda: len(batches) >= 2)
    assert log.of("a") == [1, 2, 3, 4]
    assert partition().run is None


def test_an_empty_outbox_costs_one_statement():
    """An idle poll does not even open a transaction."""
    relay()
    with CaptureQueriesContext(connection) as queries:
        relay()
    assert len(queries) == 1


@pytest.mark.server
def test_a_message_that_commits_late_is_sent_all_the_same(log):
    """Rule O2: an id below the last one sent is no reason to be left out."""
    with Worker() as slow:
        with slow.transaction():
            slow.do(record, Sold(order="slow", number=1))
            sold(1)
            relay()
            assert log == [("a", 1)]
        relay()
    assert log == [("a", 1), ("slow", 1)]
    assert list(OutboxMessage.objects.order_by("id").values_list("key", flat=True)) == ["slow", "a"]


def test_domain_events_go_to_the_own_inbox_and_not_to_the_transport(log):
    """A fact in the context's own language never leaves it."""
    put(*steps(Noted, 2), *steps(Sold, [3]))
    relay()
    assert log == [("a", 3)]
    assert (
        list(InboxMessage.objects.order_by("id").values_list("context", "source", "type"))
        == [("shop", "shop", "shop.Noted")] * 2
    )


def test_a_domain_event_without_a_key_waits_behind_no_refused_contract_without_one(log):
    """What has no order does not wait, whatever kind of message it is."""
    put(*steps(Sold, 1))
    OutboxMessage.objects.update(key=None)
    put(*steps(Loose, 1))
    with playing(publish=not_number(1, key=None)):
        relay()
    assert states() == ["pending", "sent"]


def test_refused_messages_without_a_key_fail_each_by_itself(log):
    """None of them is behind another, so none is tried again at once to find out."""
    sold(1, 2)
    OutboxMessage.objects.update(key=None)
    sizes = []

    def refuse_all(messages):
        sizes.append(len(messages))
        return not_number(1, 2, key=None)(messages)

    with playing(publish=refuse_all):
        assert relay().failed == 2
    assert sizes == [2]


def test_what_nobody_consumes_is_done_when_it_is_sent():
    """It is kept in the inbox, with no delivery."""
    put(Unheard(order="a", number=1))
    relay()
    assert states() == ["sent"]
    assert InboxMessage.objects.get().deliveries.count() == 0


# Scheduled messages


def test_a_scheduled_message_does_not_block_its_key(log):
    """The others of its key are not late because it is early."""
    put(*steps(Sold, [1]), at=timezone.now() + timedelta(hours=1))
    sold(2, 3)
    relay()
    assert log.of("a") == [2, 3]
    come_due()
    relay()
    assert log.of("a") == [2, 3, 1]


@pytest.mark.parametrize(("every", "order"), [(-1, [2, 1, 3, 4]), (60, [2, 3, 4, 1])])
def test_what_comes_due_during_a_long_run_is_not_left_to_its_end(
    log, settings, monkeypatch, every, order
):
    """A backlog of hours has its turn of retries; looking at every batch would be a waste."""
    settings.OUTBOX_INBOX = {**WIRE, "BATCH_SIZE": 1}
    monkeypatch.setattr(run_module, "_PROMOTE", every)
    put(*steps(Sold, [1]), at=timezone.now() + timedelta(hours=1))
    sold(2, 3, 4)

    def publish(messages):
        come_due()
        return take_all(messages)

    with playing(publish=publish):
        relay()

    assert log.of("a") == order


def test_a_scheduled_message_waits_like_the_others_behind_a_blocked_one(log):
    """When its time comes while its key is blocked, the key's order counts."""
    past = timezone.now() - timedelta(minutes=1)
    put(*steps(Sold, [1]), at=timezone.now() + timedelta(minutes=1))
    sold(2)
    with playing(publish=not_number(2)):
        relay()
        OutboxMessage.objects.filter(id=row(1).id).update(due_at=past)
        relay()
    assert states() == ["waiting", "pending"]
    come_due()
    relay()
    assert log.of("a") == [2, 1]


# Pausing, partitions


def test_a_paused_partition_is_left_alone(log):
    """Until it is resumed."""
    sold(1)
    pause(get_context("shop"), Queue.OUTBOX)
    assert relay().done == 0
    resume(get_context("shop"), Queue.OUTBOX)
    assert relay().done == 1


def test_a_partition_that_is_paused_during_a_run_stops_it(log, settings):
    """After the batch that is under way."""
    settings.OUTBOX_INBOX = {**WIRE, "BATCH_SIZE": 2}
    sold(*range(1, 8))
    relay(progress=lambda count: pause(get_context("shop"), Queue.OUTBOX))
    assert log.of("a") == [1, 2]
    resume(get_context("shop"), Queue.OUTBOX)
    relay()
    assert log.of("a") == [*range(1, 8)]


def test_keys_are_spread_over_the_partitions(log, settings):
    """Each key belongs to one, and each partition is sent."""
    settings.OUTBOX_INBOX = {**WIRE, "PARTITIONS": {"outbox": 3}}
    repartition()
    orders = [f"o{number}" for number in range(20)]
    for number in range(1, 4):
        put(*(Sold(order=order, number=number) for order in orders))
    relay()
    assert set(OutboxMessage.objects.values_list("partition", flat=True)) == {0, 1, 2}
    assert all(log.of(order) == [1, 2, 3] for order in orders)


def test_another_number_of_partitions_needs_a_repartition_first(log, settings):
    """With rows in the wrong partition a key could be sent by two at once."""
    relay()
    sold(1)
    settings.OUTBOX_INBOX = {**WIRE, "PARTITIONS": {"outbox": 3}}
    put(*(Sold(order=f"o{number}", number=1) for number in range(20)))
    relay()
    assert log.of("a") == [1]
    assert all(log.of(f"o{number}") == [1] for number in range(20))
    assert set(OutboxMessage.objects.values_list("partition", flat=True)) == {0}


# What is announced


def test_a_batch_is_announced_after_its_commit(log, settings):
    """To receivers that may fail without doing any harm."""
    settings.OUTBOX_INBOX = {**WIRE, "BATCH_SIZE": 2}
    told = []

    def receive(context, count, **_):
        told.append((context, count, OutboxMessage.objects.filter(state="sent").count()))
        raise ZeroDivisionError

    sold(1, 2, 3)
    signals.message_sent.connect(receive)
    try:
        relay()
    finally:
        signals.message_sent.disconnect(receive)
    assert told == [("shop", 2, 2), ("shop", 1, 3)]


# Several relays


def test_a_partition_that_is_in_use_is_left_to_its_worker(log):
    """The second relay does not wait; it reports the partition as busy."""
    sold(1, 2)
    others = []

    with Worker() as other:

        def publish(messages):
            if connection.vendor != "sqlite":
                others.append(other.do(relay))
            return take_all(messages)

        with playing(publish=publish):
            relay()
    assert log.of("a") == [1, 2]
    assert [(outcome.done, outcome.busy) for outcome in others] in ([], [(0, 1)])


def test_relays_at_once_send_each_message_once_and_in_order(log, settings):
    """With several partitions and small batches, so that they meet often."""
    settings.OUTBOX_INBOX = {**WIRE, "BATCH_SIZE": 3, "PARTITIONS": {"outbox": 2}}
    repartition()
    orders = [f"o{number}" for number in range(6)]
    for number in range(1, 11):
        put(*(Sold(order=order, number=number) for order in orders))

    def work():
        while OutboxMessage.objects.filter(state="pending").exists():
            relay()

    together(work, work, work)
    assert all(log.of(order) == [*range(1, 11)] for order in orders)


# What it costs


@pytest.mark.server
def test_a_message_costs_a_fiftieth_of_a_statement(monkeypatch):
    """Domain events with one consumer, from the outbox to the inbox."""
    for module in (
        outcome,
        run_module,
    ):  # a busy machine would need several turns, and signs of life
        monkeypatch.setattr(module, "monotonic", lambda: 0.0)
    relay()
    put(*(Loose(order=str(number), number=number) for number in range(3_000)))
    with CaptureQueriesContext(connection) as queries:
        assert relay().done == 3_000
    # MariaDB is told to watch the session, and no more.
    assert len(queries) <= 0.02 * 3_000 + 3 * (connection.vendor == "mysql")


def test_followers_of_a_blocked_head_cost_a_poll_nothing(log):
    """They are met once, and from then on the poll is that of an empty outbox."""
    sold(*range(1, 1_500))
    with playing(publish=not_number(1)):
        assert relay().held == 1_498
        with CaptureQueriesContext(connection) as queries:
            relay()
    assert len(queries) == 1


def test_advancing_the_clock_a_little_is_not_enough(log, settings):
    """A pause lasts as long as it says."""
    settings.OUTBOX_INBOX = {**WIRE, "BACKOFF": {"first": timedelta(minutes=10), "jitter": 0}}
    sold(1)
    with playing(publish=not_number(1)):
        relay()
    advance(timedelta(minutes=9))
    assert relay().done == 0
    advance(timedelta(minutes=2))
    assert relay().done == 1
