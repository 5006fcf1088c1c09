"""A handler that fails or kills its worker: attempts, back-off, followers and dead letters."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from outbox_inbox import PermanentError, signals
from outbox_inbox.inbox.fair_order import FairOrder
from outbox_inbox.models import Delivery, Queue
from outbox_inbox.operations import Selection, discard, retry
from tests.shop.events import Counted, Loose, Noted, Skipped, Twice
from tests.shop.models import Entry
from tests.support.handling import delivery, each_way, has_second_of_a, numbers
from tests.support.movers import (
    Broken,
    Worker,
    come_due,
    crash,
    crashing,
    dead,
    deliver,
    delivery_states,
    dispatch,
    entries,
    failing,
    heard,
    leave_token,
    steps,
)
from tests.support.script import playing

pytestmark = pytest.mark.usefixtures("committed")


# A handler that fails


@each_way
def test_what_a_failed_handler_did_is_undone(consumer, event):
    """Nothing of it is left but the attempt, with its traceback."""
    deliver(*steps(event, 1))
    with playing(**{consumer: failing(1)}):
        outcome = dispatch()
    assert (entries(consumer), outcome.failed) == ([], 1)
    failed = delivery(consumer)
    assert (failed.state, failed.attempts, failed.holds) == ("ready", 1, True)
    assert failed.error == "Broken: not 1"
    (attempt,) = failed.failures.all()
    assert (attempt.number, attempt.error) == (1, "Broken: not 1")
    assert "in fail\n    raise error" in attempt.traceback


@each_way
def test_a_failed_message_holds_its_followers_and_nobody_else(one, consumer, event):
    """Rule O6: the later messages of its key wait, those of other keys pass."""
    deliver(*steps(event, 3), *steps(event, 3, "b"))
    with playing(**{consumer: failing(2)}):
        dispatch()
    assert entries(consumer) == [1]
    assert entries(consumer, "b") == [1, 2, 3]
    assert delivery_states(consumer, key="a") == ["done", "ready", "waiting"]


@each_way
def test_followers_go_when_the_head_is_done(one, consumer, event):
    """In order, those that came meanwhile as well."""
    deliver(*steps(event, 3))
    with playing(**{consumer: failing(1)}):
        dispatch()
        deliver(*steps(event, [4]))
        dispatch()
        come_due()
        dispatch()
    assert entries(consumer) == []
    come_due()
    dispatch()
    assert entries(consumer) == [1, 2, 3, 4]
    assert delivery(consumer).attempts == 2


@each_way
def test_only_the_guilty_message_of_a_batch_is_counted_against(one, consumer, event):
    """The others are done at once, each exactly once."""
    deliver(*steps(event, 5), *(event(order=f"x{n}", number=n) for n in range(5)))
    with playing(**{consumer: failing(2, 4)}):
        dispatch()
    assert Entry.objects.filter(consumer=consumer).count() == 1 + 5
    attempts = Delivery.objects.filter(consumer__endswith=f".{consumer}", attempts__gt=0)
    assert [each.message.payload for each in attempts] == ['{"number":2,"order":"a"}']


def test_a_follower_does_not_wait_for_a_head_that_was_solved_after_it_was_read(one, monkeypatch):
    """An operator discards the head between the read-ahead and the parking: the follower is handled."""
    dead(*steps(Noted, 1))
    deliver(*steps(Noted, [2]))
    read = FairOrder.read

    def read_then_discard(*arguments):
        rows = read(*arguments)
        if any(row.blocked for row in rows):
            discard(Selection(context="shop"), "not needed")
        return rows

    monkeypatch.setattr(FairOrder, "read", read_then_discard)
    dispatch()  # drops what it has read
    dispatch()
    assert entries() == [2]


def test_a_batch_that_failed_is_done_again_with_savepoints(one):
    """First without them, which is faster; only after a failure with one each."""
    deliver(*steps(Counted, 2), *steps(Counted, 2, "b"))
    calls = []

    def part(event):
        calls.append((event.order, event.number))
        failing(2)(event)

    with playing(count=part):
        dispatch()
    first = [("a", 1), ("b", 1), ("a", 2)]
    second = [*first, ("b", 2)]
    assert calls == first + second


def test_a_message_that_failed_before_gets_a_savepoint_at_once(one):
    """It is likely to fail again, and then the batch need not be done twice."""
    deliver(*steps(Counted, 1), *steps(Counted, 3, "b"))
    calls = []

    def part(event):
        calls.append((event.order, event.number))
        failing(1)(event)

    with playing(count=part):
        dispatch()
        come_due()
        deliver(*steps(Counted, [4], "b"))
        calls.clear()
        dispatch()
    assert calls == [("a", 1), ("b", 4)]


@each_way
def test_a_message_is_dead_after_its_last_attempt(settings, consumer, event):
    """MAX_ATTEMPTS failures, then it waits for a person, and so do its followers."""
    settings.OUTBOX_INBOX = {"MAX_ATTEMPTS": 3}
    deliver(*steps(event, 2))
    with (
        heard(signals.delivery_dead) as dead,
        heard(signals.delivery_failed) as failed,
        playing(**{consumer: failing(1)}),
    ):
        for _ in range(5):
            dispatch()
            come_due()
    assert delivery_states(consumer) == ["dead", "waiting"]
    assert [told["attempts"] for told in failed] == [1, 2]
    assert [told["attempts"] for told in dead] == [3]
    assert [each.number for each in delivery(consumer).failures.order_by("id")] == [1, 2, 3]


@each_way
def test_a_permanent_error_is_not_tried_again(consumer, event):
    """The delivery is dead at once."""
    deliver(*steps(event, 1))
    with playing(**{consumer: failing(1, error=PermanentError)}):
        assert dispatch().dead == 1
    assert delivery_states(consumer) == ["dead"]


@each_way
def test_a_retried_message_goes_before_its_followers(settings, one, consumer, event):
    """What waited behind a dead message comes after it."""
    deliver(*steps(event, 2))
    with playing(**{consumer: failing(1, error=PermanentError)}):
        dispatch()
    deliver(*steps(event, [3]))
    retry(Selection(context="shop"))
    dispatch()
    assert entries(consumer) == [1, 2, 3]


@each_way
def test_followers_of_a_discarded_message_go(one, consumer, event):
    """The person who discards it says that they need not wait for it."""
    deliver(*steps(event, 3))
    with playing(**{consumer: failing(1, error=PermanentError)}):
        dispatch()
    discard(Selection(context="shop"), "not needed")
    dispatch()
    assert entries(consumer) == [2, 3]


def test_the_back_off_grows(settings):
    """Each failed attempt is followed by a longer pause, during which it is left alone."""
    settings.OUTBOX_INBOX = {"BACKOFF": {"first": timedelta(minutes=1), "jitter": 0}}
    deliver(*steps(Noted, 1))
    calls = []

    def part(event):
        calls.append(event.number)
        raise Broken

    with heard(signals.delivery_failed) as told, playing(note=part):
        for _ in range(3):
            dispatch()
            dispatch()
            come_due()
    assert [each["delay"].total_seconds() for each in told] == [60, 120, 240]
    assert len(calls) == 3


def test_a_consumer_may_have_attempts_of_its_own():
    """``max_attempts=`` counts for it, whatever MAX_ATTEMPTS says."""
    deliver(*steps(Twice, 1))
    with playing(twice=failing(1)):
        outcomes = []
        for _ in range(3):
            outcomes.append(dispatch())
            come_due()
    assert [(each.failed, each.dead) for each in outcomes] == [(1, 0), (0, 1), (0, 0)]


def test_followers_of_a_dead_message_may_pass():
    """With ``on_dead="skip"`` the key goes on without it."""
    deliver(*steps(Skipped, 3))
    with playing(skip=failing(2)):
        dispatch()
    assert entries("skip") == [1, 3]
    assert delivery_states("skip") == ["done", "dead", "done"]


def test_followers_pass_only_when_the_message_is_dead(one):
    """As long as there are attempts left they wait, and then they all go."""
    deliver(*steps(Twice, 3))
    with playing(twice=failing(1)):
        dispatch()
        dispatch()
        assert delivery_states("twice") == ["ready", "waiting", "waiting"]
        come_due()
        dispatch()
    assert entries("twice") == [2, 3]
    assert delivery_states("twice") == ["dead", "done", "done"]


def test_messages_without_a_key_never_wait(one):
    """A message without a key waits for no other."""
    deliver(*steps(Loose, 4))
    with playing(loose=failing(2)):
        dispatch()
    assert entries("loose") == [1, 3, 4]


def test_a_failing_consumer_neither_blocks_nor_repeats_another(one):
    """Each has a delivery of its own, also where both are read together while one holds the key."""
    calls = []
    with playing(note=failing(1), witness=lambda event, envelope: calls.append(event.number)):
        for number in (1, 2, 3):
            deliver(*steps(Noted, [number]))
            dispatch()
        come_due()
        dispatch()
    assert calls == [1, 2, 3]
    assert entries("note") == []


def test_followers_of_a_blocked_head_cost_a_poll_nothing(one):
    """They are met once, and from then on the poll is that of an empty inbox."""
    deliver(*steps(Counted, 1_200))
    with playing(count=failing(1, error=PermanentError)):
        assert dispatch().held == 1_199
    with CaptureQueriesContext(connection) as queries:
        dispatch()
    assert len(queries) == 1


def test_an_error_text_that_no_database_takes_is_stored_all_the_same(settings):
    """An error may quote anything, at any length."""
    deliver(*steps(Noted, 1))

    def part(event):
        raise Broken("\0\ud800" + "x" * 50_000)

    with playing(note=part):
        dispatch()
    assert delivery("note").error.startswith("Broken: \\x00\\ud800xxx")
    assert len(delivery("note").error) <= 1_000


# Crashes


@each_way
def test_after_a_crash_each_attempt_is_committed_before_it_is_made(one, consumer, event):
    """Rule O9: otherwise a message that kills its worker would do so for ever."""
    deliver(*steps(event, 2))
    leave_token(Queue.INBOX)
    seen = []
    with Worker() as other:

        def part(events):
            (number,) = numbers(events)
            seen.append(other.do(delivery, consumer, number).attempts)

        with playing(**{consumer: part}):
            dispatch()
    assert seen == [1, 1]
    assert entries(consumer) == [1, 2]


@each_way
def test_a_message_that_kills_its_worker_is_dead_in_the_end(settings, one, consumer, event):
    """Rule O9: after MAX_ATTEMPTS crashes it waits for a person; the innocent are handled."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "MAX_ATTEMPTS": 3}
    deliver(*steps(event, 3), *steps(event, 3, "b"))

    def part(events):
        if has_second_of_a(events):
            crash()

    with playing(**{consumer: part}):
        for _ in range(1 + 3):
            with crashing():
                dispatch()
        dispatch()
    assert delivery_states(consumer, key="a") == ["done", "dead", "waiting"]
    assert (entries(consumer), entries(consumer, "b")) == ([1], [1, 2, 3])
    assert "the worker ended without warning" in delivery(consumer, 2, key="a").error


def test_after_a_crash_one_at_a_time_lasts_for_two_batches(settings, one):
    """The oldest one, and one of those that a look past it finds: the guilty message is in either."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "BATCH_SIZE": 3}
    deliver(*steps(Counted, 8))
    leave_token(Queue.INBOX)
    batches = []
    dispatch(progress=batches.append)
    assert batches == [1, 1, 1, 1, 1, 1, 2]


def test_a_consumer_with_one_attempt_makes_it_after_a_crash(one):
    """The crash was another's, for all we know."""
    deliver(*steps(Skipped, 2))
    leave_token(Queue.INBOX)
    dispatch()
    assert entries("skip") == [1, 2]


@each_way
def test_an_attempt_that_was_counted_but_not_made_keeps_its_place(one, consumer, event):
    """After a crash and an operator's visit a doubtful message still comes before its followers."""
    deliver(*steps(event, 3), *steps(event, 1, "b"))
    Delivery.objects.filter(pk=delivery(consumer, key="a").pk).update(attempts=1)
    dispatch()
    assert entries(consumer) == [1, 2, 3]
    assert entries(consumer, "b") == [1]
