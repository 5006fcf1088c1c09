"""After a crash: one message at a time, each counted before it is tried, and none counted twice."""

import pytest
from django.db import OperationalError

from outbox_inbox.models import Delivery, OutboxMessage, Queue
from tests.shop.events import Noted, Twice
from tests.support.handling import delivery, each_way
from tests.support.movers import (
    come_due,
    crash,
    crashing,
    deliver,
    delivery_states,
    dispatch,
    entries,
    failing,
    leave_token,
    raising,
    relay,
    states,
    steps,
)
from tests.support.relaying import not_number, out_of_reach, row, sold
from tests.support.script import playing
from tests.support.wire import WIRE

pytestmark = pytest.mark.usefixtures("committed")


def deadlock(*_):
    """Fail as MariaDB lets a statement fail for the sake of another transaction."""
    raise OperationalError(1213, "Deadlock found when trying to get lock")


# The relay


@pytest.mark.parametrize("failure", [not_number(1), raising(ValueError)], ids=["refused", "error"])
def test_a_failure_after_a_crash_is_one_attempt_of_its_message(log, failure):
    """It was counted before the transport got the message, and is not counted again."""
    sold(1)
    leave_token(Queue.OUTBOX)
    with playing(publish=failure):
        relay()
    assert (states(), row(1).attempts) == (["pending"], 1)


def test_an_outage_after_a_crash_leaves_an_earlier_failure_counted(log):
    """Only the attempt that the outage has ended is taken back."""
    sold(1)
    OutboxMessage.objects.update(attempts=2, error="ValueError: of another day")
    leave_token(Queue.OUTBOX)
    with playing(publish=out_of_reach):
        relay()
    assert row(1).attempts == 2


@pytest.mark.mariadb
@pytest.mark.mysql
def test_a_deadlock_in_a_careful_walk_of_the_relay_is_no_attempt(log):
    """The attempt that was counted before is taken back: no worker has ended in it."""
    sold(1)
    leave_token(Queue.OUTBOX)
    with playing(publish=deadlock):
        relay()
    assert (states(), row(1).attempts) == (["pending"], 0)


def test_a_follower_of_a_refused_message_is_parked_after_a_crash_without_an_attempt(log):
    """The message is not tried, so nothing is counted."""
    sold(1)
    with playing(publish=not_number(1)):
        relay()
    sold(2)
    leave_token(Queue.OUTBOX)
    relay()
    assert (row(2).state, row(2).attempts) == ("waiting", 0)


def test_a_message_in_which_several_relays_have_ended_backs_off(settings, log):
    """The workers are needed for other partitions and contexts."""
    settings.OUTBOX_INBOX = {**WIRE, "MAX_ATTEMPTS": 10}
    sold(1)
    with playing(publish=lambda _: crash()):
        for _ in range(1 + 3):
            with crashing():
                relay()
        relay()
    assert (states(), row(1).attempts) == (["pending"], 3)
    assert row(1).due_at is not None


def test_a_message_that_was_refused_before_it_kills_its_relays_is_dead_in_the_end(settings, log):
    """What the refusal has left must not look as if the last attempt had ended well."""
    settings.OUTBOX_INBOX = {**WIRE, "MAX_ATTEMPTS": 3}
    sold(1)
    with playing(publish=not_number(1)):
        relay()
    come_due()
    with playing(publish=lambda _: crash()):
        for _ in range(1 + 2):
            with crashing():
                relay()
        relay()
    assert states() == ["dead"]


# The dispatcher


@each_way
def test_a_message_that_failed_before_it_kills_its_worker_is_dead_in_the_end(
    settings, one, consumer, event
):
    """What the failure has left must not look as if the last attempt had ended well."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "MAX_ATTEMPTS": 3}
    deliver(*steps(event, 1))
    with playing(**{consumer: failing(1)}):
        dispatch()
    come_due()
    with playing(**{consumer: lambda _: crash()}):
        for _ in range(1 + 2):
            with crashing():
                dispatch()
        dispatch()
    assert delivery_states(consumer) == ["dead"]


@each_way
def test_the_followers_of_a_suspect_wait_until_it_was_handled(one, consumer, event):
    """It comes after all others of the partition, and still before the later ones of its key."""
    deliver(*steps(event, 3))
    Delivery.objects.filter(pk=delivery(consumer).pk).update(attempts=1)
    leave_token(Queue.INBOX)
    dispatch()
    assert entries(consumer) == [1, 2, 3]


@pytest.mark.mariadb
@pytest.mark.mysql
def test_a_deadlock_in_a_careful_walk_of_the_dispatcher_is_no_attempt(one):
    """The attempt that was counted before is taken back: no worker has ended in it."""
    deliver(*steps(Noted, 1))
    leave_token(Queue.INBOX)
    with playing(note=deadlock):
        dispatch()
    assert (delivery_states(), delivery("note").attempts) == (["ready"], 0)


def test_a_consumer_with_attempts_of_its_own_uses_them_up_by_crashes(one):
    """With ``max_attempts=2`` the second counted crash is the last one."""
    deliver(*steps(Twice, 1))
    with playing(twice=lambda _: crash()):
        for _ in range(1 + 2):
            with crashing():
                dispatch()
        dispatch()
    assert (delivery_states("twice"), delivery("twice").attempts) == (["dead"], 2)


@each_way
def test_a_failure_of_a_handler_after_a_crash_is_one_attempt(one, consumer, event):
    """It was counted before the handler was called, and is not counted again."""
    deliver(*steps(event, 1))
    leave_token(Queue.INBOX)
    with playing(**{consumer: failing(1)}):
        dispatch()
    assert delivery(consumer).attempts == 1
