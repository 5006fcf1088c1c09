"""A busy or slow key delays the others of its partition by one message, and keeps its own order."""

from datetime import timedelta
from itertools import count

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from outbox_inbox.contexts import get_context
from outbox_inbox.models import Delivery, Queue
from outbox_inbox.queues import outcome, statements
from outbox_inbox.queues.partitions import partition_statuses
from tests.shop.events import Counted, Listed, Loose, Noted
from tests.support.handling import as_list, each_way
from tests.support.movers import deliver, delivery_states, dispatch, entries, leave_token, steps
from tests.support.script import playing

pytestmark = pytest.mark.usefixtures("committed", "one")


@pytest.fixture(autouse=True)
def frozen(monkeypatch):
    """Let the clock stand still: a turn ends only where a test wants it to."""
    monkeypatch.setattr(outcome, "monotonic", lambda: 0.0)


@pytest.fixture
def slow(frozen, monkeypatch):
    """Let more time than a turn pass between any two looks at the clock."""
    times = count()
    monkeypatch.setattr(outcome, "monotonic", lambda: next(times) * outcome.TURN)


@pytest.fixture
def small(settings):
    """Pages of five deliveries."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "BATCH_SIZE": 5}


@pytest.fixture
def calls():
    """What the handlers of the shop are called with, in order, as "a1"."""
    found = []

    def note(event, *_):
        found.extend(f"{each.order}{each.number}" for each in as_list(event))

    with playing(note=note, count=note, enlist=note, loose=note):
        yield found


def take_turn():
    """Give each partition of the shop one turn."""
    return dispatch(seen=partition_statuses(get_context("shop"), Queue.INBOX))


@pytest.mark.parametrize(("consumer", "event"), [("note", Noted), ("count", Counted)])
def test_keys_of_a_partition_take_turns(calls, consumer, event):
    """One with many messages before those of another delays these by one message of its own each."""
    deliver(*steps(event, 4), *steps(event, 2, "b"), *steps(event, 1, "c"))
    dispatch()
    assert calls == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_a_list_is_in_the_order_in_which_its_messages_came(calls):
    """It is one call, so no key is before another."""
    deliver(*steps(Listed, 3), *steps(Listed, 2, "b"))
    dispatch()
    assert calls == ["a1", "a2", "a3", "b1", "b2"]


def test_a_key_behind_a_page_of_another_does_not_wait_for_the_page(small, calls):
    """Where few keys fill a page, the dispatcher looks at twenty pages."""
    deliver(*steps(Counted, 40), *steps(Counted, 1, "b"), *steps(Counted, 2, "c"))
    dispatch()
    assert calls[:4] == ["a1", "b1", "c1", "a2"]
    assert entries("count") == [*range(1, 41)]


def test_messages_without_a_key_share_one_turn(small, calls):
    """A flood of them is not a flood of turns."""
    deliver(*steps(Loose, 20), *steps(Noted, 2))
    Delivery.objects.filter(consumer="shop.handlers.witness").delete()
    take_turn()
    assert {"a1", "a2"} <= set(calls[:4])


@each_way
def test_a_key_keeps_its_order_however_many_turns_it_takes(small, slow, consumer, event):
    """Rule O6, with pages, turns and looks past a page between two messages of a key."""
    deliver(*steps(event, 23), *steps(event, 7, "b"), *steps(event, 3, "c"))
    while take_turn().done:
        pass
    handled = {order: entries(consumer, order) for order in "abc"}
    assert handled == {"a": [*range(1, 24)], "b": [*range(1, 8)], "c": [1, 2, 3]}
    assert set(delivery_states(consumer)) == {"done"}


def test_a_handler_that_takes_a_whole_turn_is_fair_as_well(slow, calls):
    """The next turn begins with a key that was not reached: the oldest one would have them all."""
    deliver(*steps(Noted, 5), *steps(Noted, 5, "b"), *steps(Noted, 5, "c"))
    Delivery.objects.filter(consumer="shop.handlers.witness").delete()
    for _ in range(6):
        take_turn()
    assert calls == ["a1", "b1", "c1", "a2", "b2", "c2"]


def test_a_way_of_handling_does_not_keep_the_others_waiting(slow, settings, calls):
    """Slow consumers with ``transaction="batch"`` are not always before those without."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "BATCH_TIME": timedelta(microseconds=1)}
    deliver(*steps(Counted, 9), *steps(Noted, 2))
    Delivery.objects.filter(consumer="shop.handlers.witness").delete()
    for _ in range(4):
        take_turn()
    assert (len(entries("count")), entries("note")) == (2, [1, 2])


def test_after_a_crash_deliveries_are_taken_in_the_order_in_which_they_came(calls):
    """The guilty one is mostly among the oldest."""
    deliver(*steps(Noted, 3), *steps(Noted, 1, "b"))
    leave_token(Queue.INBOX)
    dispatch()
    assert calls == ["a1", "a2", "a3", "b1"]


def test_after_a_crash_a_delivery_behind_a_page_of_another_key_is_met_soon(small, calls):
    """Rule O9: the worker may have looked past the page, and that delivery may be the guilty one."""
    deliver(*steps(Counted, 40), *steps(Counted, 1, "b"))
    leave_token(Queue.INBOX)
    dispatch(limit=10)
    assert calls == [*(f"a{number}" for number in range(1, 7)), "b1", "a7", "a8", "a9"]
    assert Delivery.objects.get(key="b").attempts == 1


def test_a_page_of_many_keys_costs_no_look_past_it(small):
    """Nor does a page that is not full: an ordinary page is one statement."""
    deliver(*(Counted(order=f"order {number}", number=1) for number in range(5)))
    deliver(*steps(Counted, 4))
    with CaptureQueriesContext(connection) as queries:
        dispatch()
    assert set(delivery_states("count")) == {"done"}
    assert not [
        each for each in queries if each["sql"].startswith("SELECT d.id, d.consumer, d.key")
    ]


def test_a_turn_looks_past_its_page_once(small, monkeypatch, calls):
    """A backlog of one key, however long, costs one look a turn."""
    looks = []
    select = statements.select_groups
    monkeypatch.setattr(
        statements, "select_groups", lambda *place: looks.append(place) or select(*place)
    )
    deliver(*steps(Counted, 30))
    assert take_turn().done == 30
    assert len(looks) == 1
