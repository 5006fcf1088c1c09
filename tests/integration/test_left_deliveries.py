"""Deliveries that a process's code does not have: it leaves them, in order, to one that has."""

import logging

import pytest

from outbox_inbox.contexts import get_context
from outbox_inbox.models import Delivery, DeliveryAttempt, InboxMessage, Partition, Queue
from outbox_inbox.operations import running
from outbox_inbox.testing import DrainFailed, drain
from tests.shop.events import Closed, Counted, Listed, Loose, Noted, Opened
from tests.support.deployments import OlderCode
from tests.support.handling import each_way
from tests.support.movers import (
    Broken,
    come_due,
    deliver,
    delivery_states,
    dispatch,
    entries,
    failing,
    leave_token,
    put,
    relay,
    steps,
)
from tests.support.script import playing

pytestmark = pytest.mark.usefixtures("committed", "one")

each_cause = pytest.mark.parametrize(
    "older",
    [
        OlderCode(consumers=["note"]),
        OlderCode(types=["shop.Noted"]),
        OlderCode(versions={"shop.Noted": 0}),
    ],
    ids=["consumer", "type", "version"],
)
each_size = pytest.mark.parametrize("size", [1, 2, 100])


def newer(consumer, *numbers):
    """Let some messages be of a version that only newer code can read."""
    for number in numbers:
        rows = InboxMessage.objects.filter(payload__contains=f'"number":{number},')
        assert rows.filter(deliveries__consumer__endswith=f".{consumer}").update(schema_version=2)


def all_readable():
    """Let them be read by this process, as if its code were the newer one."""
    InboxMessage.objects.update(schema_version=1)


def alternating():
    """Bring in steps of one key, every other of a type that `ONLY_CLOSED` does not have."""
    for event in (Opened(order="a", number=1), Closed(order="a", number=2)) * 2:
        number = InboxMessage.objects.count() + 1
        deliver(type(event)(order="a", number=number))


ONLY_CLOSED = OlderCode(types=["shop.Opened"])


@each_cause
def test_what_is_left_counts_no_attempt(older):
    """The delivery is as it was: ready, without an attempt, without a back-off."""
    deliver(*steps(Noted, 2))
    with older.running():
        dispatch()
    rows = Delivery.objects.filter(consumer__endswith=".note")
    assert set(rows.values_list("state", "attempts", "due_at", "error")) <= {
        ("ready", 0, None, ""),
        ("waiting", 0, None, ""),
    }
    assert not DeliveryAttempt.objects.exists()


@each_cause
def test_no_partition_backs_off_for_what_is_left(older):
    """The newer process finds the partition free."""
    deliver(*steps(Noted, 2))
    with older.running():
        dispatch()
    assert not Partition.objects.filter(retry_at__isnull=False).exists()
    assert not Partition.objects.filter(run__isnull=False).exists()


@each_cause
def test_what_is_left_is_handled_in_order_by_newer_code(older):
    """At once, without waiting for anything to come due."""
    deliver(*steps(Noted, 3))
    with older.running():
        dispatch()
        dispatch()
    dispatch()
    assert entries() == [1, 2, 3]


@each_cause
def test_what_is_left_is_said_once(older, caplog):
    """However often the process meets it, and however many there are."""
    deliver(*steps(Noted, 3), *steps(Noted, 2, "b"))
    with older.running(), caplog.at_level(logging.WARNING, "outbox_inbox.inbox"):
        for _ in range(3):
            dispatch()
    said = [each for each in caplog.messages if "'shop.handlers.note'" in each]
    assert len(said) == 1


@each_cause
def test_other_consumers_and_keys_go_on(older):
    """Only what the code lacks is left."""
    deliver(*steps(Noted, 2), *steps(Closed, 2), *steps(Noted, 2, "b"))
    with older.running():
        dispatch()
    assert (entries("follow"), delivery_states("witness").count("done")) == (
        [1, 2],
        0 if older.types or older.versions else 4,
    )


def test_a_process_with_nothing_but_left_deliveries_pauses():
    """It looks once between two pauses, and does not spin."""
    deliver(*steps(Noted, 3), *steps(Loose, 3))
    pauses: list[float] = []
    with OlderCode(consumers=["note", "witness", "loose"]).running():
        dispatch()
        dispatch()
        running.run(
            [get_context("shop")],
            stop=lambda: len(pauses) >= 4,
            wait=pauses.append,
            report=lambda turn: pytest.fail(f"{turn} has moved something"),
        )
    assert pauses == sorted(pauses)


@each_size
@each_way
def test_what_comes_after_a_left_message_of_a_key_waits(settings, size, consumer, event):
    """Also what the process could handle, and also what it reads in a later page."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "BATCH_SIZE": size}
    deliver(*steps(event, 5), *steps(event, 2, "b"))
    newer(consumer, 3)
    dispatch()
    dispatch()
    assert (entries(consumer), entries(consumer, "b")) == ([1, 2], [1, 2])


@each_size
@each_way
def test_what_waited_for_a_left_message_follows_it(settings, size, consumer, event):
    """The newer process handles the whole key in order."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "BATCH_SIZE": size}
    deliver(*steps(event, 5))
    newer(consumer, 2, 4)
    dispatch()
    dispatch()
    all_readable()
    dispatch()
    assert entries(consumer) == [1, 2, 3, 4, 5]


@each_way
def test_the_careful_walk_leaves_messages_in_order(consumer, event):
    """After a worker was killed, too, nothing passes what is left, and nothing counts against it."""
    deliver(*steps(event, 4))
    newer(consumer, 2)
    leave_token(Queue.INBOX)
    dispatch()
    left = Delivery.objects.filter(consumer__endswith=f".{consumer}").exclude(state="done")
    assert (entries(consumer), {row.attempts for row in left}) == ([1], {0})


@each_size
def test_nothing_passes_the_next_left_message_of_a_key(settings, size):
    """The newer process handles one and is gone: the older one stops again at the next."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "BATCH_SIZE": size}
    alternating()
    with ONLY_CLOSED.running():
        dispatch()
    dispatch(limit=1)
    with ONLY_CLOSED.running():
        dispatch()
        dispatch()
    assert entries("follow") == [1, 2]


def test_two_codes_by_turns_keep_the_order_of_a_key():
    """Each handles what it can, and the other one goes on."""
    alternating()
    for _ in range(4):
        with ONLY_CLOSED.running():
            dispatch()
        dispatch(limit=1)
    assert entries("follow") == [1, 2, 3, 4]


@each_size
def test_a_failure_in_front_of_a_left_message_blocks_nothing_for_ever(settings, size):
    """Would both hold the key, each would wait for the other."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "BATCH_SIZE": size}
    deliver(Closed(order="a", number=1), Opened(order="a", number=2), Closed(order="a", number=3))
    with ONLY_CLOSED.running(), playing(follow=failing(1, error=Broken)):
        dispatch()
        dispatch()
    come_due()
    with ONLY_CLOSED.running():
        dispatch()
        dispatch()
    dispatch()
    assert entries("follow") == [1, 2, 3]


def test_a_drain_in_a_test_reports_what_it_has_left():
    """There is no other process that would handle it."""
    deliver(*steps(Noted, 1))
    newer("note", 1)
    with pytest.raises(DrainFailed, match="no consumer of them"):
        drain()


def test_without_a_key_the_others_go_on():
    """There is no order to keep: what can be handled is."""
    deliver(*steps(Loose, 3))
    newer("loose", 1)
    dispatch()
    assert entries("loose") == [2, 3]


def test_a_limit_is_not_used_up_by_what_is_left():
    """A call for one delivery handles the first that it can."""
    deliver(*steps(Noted, 3), *steps(Counted, 1), *steps(Listed, 1))
    with OlderCode(consumers=["note", "witness"]).running():
        assert dispatch(limit=1).done == 1


def test_what_arrives_later_of_a_left_key_is_left_as_well():
    """A key that was left keeps its order when more comes in."""
    alternating()
    with ONLY_CLOSED.running():
        dispatch()
        put(Closed(order="a", number=5))
        relay()
        dispatch()
    assert entries("follow") == []
    dispatch()
    assert entries("follow") == [1, 2, 3, 4, 5]
