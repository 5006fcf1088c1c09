"""A clock that is put back, as by a failover to a server that is behind, has nothing stand still."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from outbox_inbox.contexts import get_context
from outbox_inbox.models import Delivery, OutboxMessage, Partition, Queue
from outbox_inbox.operations import prune, pruning, queue_stats
from outbox_inbox.queues import statements
from outbox_inbox.queues.partitions import partition_statuses
from outbox_inbox.queues.run import partition_run
from outbox_inbox.queues.statements import due, times
from tests.shop.contracts import Sold
from tests.shop.events import Noted
from tests.support.clocks import put_back, put_forward
from tests.support.movers import (
    Worker,
    come_due,
    deliver,
    dispatch,
    entries,
    failing,
    put,
    receive,
    relay,
    steps,
    striking,
)
from tests.support.relaying import not_number, out_of_reach, partition, row, sold
from tests.support.script import playing
from tests.support.wire import WIRE

pytestmark = pytest.mark.usefixtures("committed")

MEMORY = {"TRANSPORTS": {"default": "memory://"}}


def leave(queue, **life):
    """Leave the partitions of a queue of the shop to a worker whose last sign of life was then."""
    stamp = timezone.now() + timedelta(**life)
    rows = Partition.objects.filter(context="shop", queue=queue)
    assert rows.update(run=uuid4(), last_run_at=stamp)


class Leaping:
    """The clock of this process, ahead by so much."""

    def __init__(self, lead):
        self.lead = lead

    def now(self, zone):
        """Return its time."""
        return timezone.now().astimezone(zone) + self.lead


# Signs of life


def test_a_relay_takes_over_from_one_that_has_crashed_in_the_future():
    """Its last sign of life is of a clock that was put back since."""
    put(*steps(Noted, 1))
    leave(Queue.OUTBOX, hours=6)
    assert relay().done == 1


def test_a_dispatcher_takes_over_from_one_that_has_crashed_in_the_future():
    """Its last sign of life is of a clock that was put back since."""
    deliver(*steps(Noted, 1))
    leave(Queue.INBOX, hours=6)
    dispatch()
    assert entries() == [1]


def test_a_receiver_takes_over_from_one_that_has_crashed_in_the_future(settings):
    """Its last sign of life is of a clock that was put back since."""
    settings.OUTBOX_INBOX = MEMORY
    put(*steps(Sold, 1))
    relay()
    stamp = timezone.now() + timedelta(hours=6)
    Partition.objects.filter(queue=Queue.INTAKE).update(run=uuid4(), last_run_at=stamp)
    assert receive("depot").done == 1


def test_a_partition_that_shows_life_by_a_clock_a_second_ahead_is_left_alone():
    """The clocks of two servers of a cluster differ."""
    put(*steps(Noted, 1))
    leave(Queue.OUTBOX, seconds=1)
    assert (relay().busy, OutboxMessage.objects.get().state) == (1, "pending")


def test_a_worker_that_is_at_work_while_the_clock_is_put_back_repeats_nothing():
    """Another one takes its partition over; it finds that out before it does anything."""
    deliver(*steps(Noted, 5))

    def change():
        put_back(hours=6)
        other.do(dispatch)

    with Worker() as other, striking("dispatch.after_commit", change):
        dispatch()
    dispatch()
    assert entries() == [1, 2, 3, 4, 5]
    assert set(Delivery.objects.values_list("state", flat=True)) == {"done"}


def test_a_worker_that_is_at_work_while_the_clock_is_put_forward_repeats_nothing():
    """Its partition is free for a moment; who loses it, finds that out."""
    deliver(*steps(Noted, 5))

    def change():
        put_forward(hours=6)
        other.do(dispatch)

    with Worker() as other, striking("dispatch.after_commit", change):
        dispatch()
    dispatch()
    assert entries() == [1, 2, 3, 4, 5]


def test_partitions_that_ran_before_the_clock_was_put_back_do_not_come_last():
    """A sweep that is cut off each time would never reach them."""
    deliver(*[Noted(order=f"k{number}", number=1) for number in range(50)])
    dispatch()
    put_back(hours=6)
    ran = Partition.objects.filter(context="shop", queue=Queue.INBOX, number=3)
    ran.update(last_run_at=timezone.now())
    found = partition_statuses(get_context("shop"), Queue.INBOX)
    assert found[-1].number == 3


# Back-offs of messages

BACK = pytest.mark.parametrize("back", [{"minutes": 5}, {"hours": 6}], ids=["minutes", "hours"])


@BACK
def test_a_delivery_that_backs_off_is_tried_again_soon(back):
    """Its pause was one of a second."""
    deliver(*steps(Noted, 1))
    with playing(note=failing(1)):
        dispatch()
    put_back(**back)
    dispatch()
    assert entries() == [1]


@BACK
@pytest.mark.parametrize("key", ["a", None])
def test_a_message_of_the_outbox_that_backs_off_is_tried_again_soon(settings, log, back, key):
    """With a key that it holds, or without."""
    settings.OUTBOX_INBOX = WIRE
    sold(1)
    OutboxMessage.objects.update(key=key)
    with playing(publish=not_number(1, key=key)):
        relay()
    put_back(**back)
    relay()
    assert log == [(key, 1)]


def test_a_run_that_ends_after_the_clock_was_put_back_leaves_that_to_be_seen():
    """It has begun before, and its last statement would hide how far the times are ahead."""
    deliver(*steps(Noted, 1))
    with playing(note=failing(1)):
        dispatch()
    number = Delivery.objects.get(consumer="shop.handlers.note").partition
    found = partition_statuses(get_context("shop"), Queue.INBOX)
    (status,) = [each for each in found if each.number == number]
    with partition_run(get_context("shop"), status):
        put_back(minutes=5)
    dispatch()
    assert entries() == [1]


def test_a_run_that_crashes_before_it_has_looked_at_the_times_leaves_that_to_the_next():
    """Its token alone does not say that the clock was put back."""
    deliver(*steps(Noted, 1))
    with playing(note=failing(1)):
        dispatch()
    put_back(minutes=5)
    for status in partition_statuses(get_context("shop"), Queue.INBOX):
        statements.begin_run(connection, status.id, uuid4(), 1000)
    dispatch()
    assert entries() == [1]


def test_a_back_off_that_is_further_ahead_than_any_is_ended():
    """Whatever else the partition says."""
    deliver(*steps(Noted, 1))
    with playing(note=failing(1)):
        dispatch()
    failed = Delivery.objects.get(consumer="shop.handlers.note")
    Delivery.objects.filter(pk=failed.pk).update(due_at=failed.due_at + timedelta(hours=6))
    dispatch()
    assert entries() == [1]


def test_a_back_off_is_found_behind_messages_that_are_scheduled_for_far_ahead(settings, log):
    """In the outbox they are not told apart by a look, but by a run now and then."""
    settings.OUTBOX_INBOX = WIRE
    put(*steps(Sold, 1, "later"), at=timezone.now() + timedelta(days=1))
    sold(2)
    with playing(publish=not_number(2)):
        relay()
    OutboxMessage.objects.filter(pk=row(2).pk).update(due_at=timezone.now() + timedelta(days=2))
    relay()
    assert log == []
    longer = timezone.now() - timedelta(seconds=due._STRAYS + 1)
    Partition.objects.filter(queue=Queue.OUTBOX).update(last_run_at=longer)
    relay()
    assert log == [("a", 2)]


def test_messages_that_are_scheduled_for_far_ahead_cost_an_idle_round_nothing(settings, log):
    """A run looks among them every ten seconds, whatever the number of processes."""
    settings.OUTBOX_INBOX = WIRE
    put(*steps(Sold, 3), at=timezone.now() + timedelta(days=30))
    relay()
    with CaptureQueriesContext(connection) as queries:
        relay()
    assert len(queries) == 1


def test_a_back_off_that_can_be_as_long_is_not_shortened(settings):
    """The random part of a pause may have shortened it."""
    settings.OUTBOX_INBOX = {"BACKOFF": {"first": timedelta(minutes=20), "jitter": 0}}
    deliver(*steps(Noted, 1))
    with playing(note=failing(1)):
        dispatch()
    Delivery.objects.filter(attempts=1).update(due_at=timezone.now() + timedelta(minutes=10))
    put_back(seconds=10)
    dispatch()
    assert entries() == []


def test_what_was_left_to_newer_code_is_looked_at_again_soon():
    """It has no failed attempt, and is not scheduled either."""
    deliver(*steps(Noted, 1))
    with playing(note=failing(1)):
        dispatch()
    later = timezone.now() + timedelta(seconds=times.LEFT)
    Delivery.objects.update(due_at=later, attempts=0, error="NewerVersion: no")
    put_back(minutes=5)
    dispatch()
    assert entries() == [1]


def test_followers_of_what_is_brought_back_stay_behind_it():
    """The order of the key is kept."""
    deliver(*steps(Noted, 3))
    with playing(note=failing(1)):
        dispatch()
        put_back(hours=6)
        dispatch()
        assert entries() == []
    come_due()
    dispatch()
    assert entries() == [1, 2, 3]


def test_a_scheduled_message_keeps_its_time(settings, log):
    """It is the time of the use case, however far the clock is put back."""
    settings.OUTBOX_INBOX = WIRE
    put(*steps(Sold, 1), at=timezone.now() + timedelta(hours=1))
    relay()
    put_back(hours=6)
    before = OutboxMessage.objects.get().due_at
    relay()
    assert (OutboxMessage.objects.get().due_at, log.all()) == (before, [])


def test_what_comes_due_by_a_clock_that_is_put_forward_is_handled_once():
    """It comes early, and in order."""
    deliver(*steps(Noted, 3))
    with playing(note=failing(1)):
        dispatch()
    put_forward(hours=6)
    dispatch()
    dispatch()
    assert entries() == [1, 2, 3]


# Outages


@BACK
def test_a_partition_that_rests_is_tried_again_soon(settings, log, back):
    """The pause after the first failure is a second, whatever the clock says."""
    settings.OUTBOX_INBOX = WIRE
    sold(1)
    with playing(publish=out_of_reach):
        relay()
    put_back(**back)
    assert [each.until for each in queue_stats([get_context("shop")])[0].partitions] == [None]
    relay()
    assert log == [("a", 1)]


def test_a_partition_rests_as_long_as_its_failures_say(settings, log):
    """A rest of an hour is right after many of them."""
    settings.OUTBOX_INBOX = WIRE
    sold(1)
    rests = timezone.now() + timedelta(minutes=59)
    Partition.objects.filter(queue=Queue.OUTBOX).update(retry_at=rests, outages=20)
    relay()
    assert (log.all(), partition().outages) == ([], 20)


# Ids that are remembered


def test_a_clock_that_leaps_ahead_has_no_ids_forgotten(monkeypatch):
    """Rule O8: one clock alone does not say that a duplicate cannot come any more."""
    deliver(*steps(Noted, 1))
    dispatch()
    for leap in (timedelta(days=60), timedelta()):
        ahead = timezone.now() + leap
        monkeypatch.setattr(pruning, "database_time", lambda _, ahead=ahead: ahead)
        monkeypatch.setattr(pruning, "datetime", Leaping(timedelta(days=60) - leap))
        assert [each.total for each in prune([get_context("shop")])] == [0]
    monkeypatch.setattr(pruning, "datetime", Leaping(timedelta(days=60)))
    monkeypatch.setattr(pruning, "database_time", lambda _: timezone.now() + timedelta(days=60))
    (found,) = prune([get_context("shop")])
    assert found.inbox == 1
