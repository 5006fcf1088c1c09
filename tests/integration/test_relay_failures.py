"""What the relay does about refusals, outages, unexpected errors and crashes of its own."""

from datetime import timedelta

import pytest
from django.db import OperationalError, transaction
from django.utils import timezone

from outbox_inbox import record, signals
from outbox_inbox.models import InboxMessage, OutboxMessage, Queue
from outbox_inbox.operations import Selection, discard, retry
from outbox_inbox.queues.run import Run
from outbox_inbox.transports import Published
from tests.shop.contracts import Sold
from tests.shop.events import Noted
from tests.support import wire
from tests.support.movers import (
    Crash,
    Worker,
    come_due,
    crash,
    crashing,
    end_session,
    fall_silent,
    heard,
    leave_token,
    put,
    raising,
    relay,
    session,
    states,
    steps,
    striking,
)
from tests.support.relaying import not_number, number_of, out_of_reach, partition, row, sold
from tests.support.script import playing
from tests.support.wire import WIRE, refusing, take_all

pytestmark = pytest.mark.usefixtures("committed")


# A message that is refused


def test_a_refused_message_holds_its_followers_and_nobody_else(log):
    """Rule O3: the later messages of its key wait, those of other keys pass."""
    sold(1, 2, 3)
    sold(1, 2, 3, order="b")
    with playing(publish=not_number(2)):
        outcome = relay()
    assert (log.of("a"), log.of("b")) == ([1], [1, 2, 3])
    assert (outcome.done, outcome.failed, outcome.held) == (4, 1, 1)
    assert states(key="a") == ["sent", "pending", "waiting"]


def test_followers_go_when_the_head_has_gone(log):
    """In order, and within the same call."""
    sold(1, 2, 3)
    with playing(publish=not_number(1)):
        relay()
        sold(4)
        relay()
    assert log == []
    come_due()
    relay()
    assert log.of("a") == [1, 2, 3, 4]


def test_a_domain_event_waits_behind_a_refused_contract_of_its_key(log):
    """Order is that of the key, whatever kind of message it is."""
    put(*steps(Sold, [1]), *steps(Noted, [2]), *steps(Noted, [2], "b"))
    with playing(publish=not_number(1)):
        relay()
    assert list(InboxMessage.objects.values_list("key", flat=True)) == ["b"]
    come_due()
    relay()
    assert states() == ["sent"] * 3


def test_two_messages_of_a_key_refused_together_do_not_block_each_other(log):
    """Rule O10: they are sent one after the other as soon as the transport takes them."""

    def refuse_all(messages):
        return Published(sent=[], refused=dict.fromkeys([m.row for m in messages], ValueError()))

    sold(1, 2, 3)
    with playing(publish=refuse_all):
        relay()
    come_due()
    relay()
    come_due()
    relay()
    assert log.of("a") == [1, 2, 3]


def test_a_refused_message_without_a_key_holds_nobody(log):
    """What has no order does not wait."""
    with transaction.atomic():
        record(*steps(Sold, 3), key=None)
    OutboxMessage.objects.update(key=None)
    with playing(publish=refusing(lambda message: number_of(message) == 2)):
        relay()
    assert log == [(None, 1), (None, 3)]


def test_a_refused_message_backs_off(log):
    """It is not tried again before its time, and keeps its error for the operators."""
    sold(1)
    with playing(publish=not_number(1)):
        relay()
        relay()
    refused = row(1)
    assert (refused.state, refused.attempts, refused.holds) == ("pending", 1, True)
    assert refused.error == "MessageRefused: not this one"
    assert refused.due_at > timezone.now()


def test_the_back_off_grows(log, settings):
    """Each failed attempt is followed by a longer pause."""
    settings.OUTBOX_INBOX = {**WIRE, "BACKOFF": {"first": timedelta(minutes=1), "jitter": 0}}
    sold(1)
    pauses = []
    with playing(publish=not_number(1)):
        for _ in range(3):
            relay()
            pauses.append(round((row(1).due_at - timezone.now()).total_seconds() / 60, 1))
            come_due()
    assert pauses == [1, 2, 4]


def test_a_message_is_dead_after_its_last_attempt(log, settings):
    """MAX_ATTEMPTS tries, then it waits for a person, and so do its followers."""
    settings.OUTBOX_INBOX = {**WIRE, "MAX_ATTEMPTS": 3}
    sold(1, 2)
    with heard(signals.message_dead) as told, playing(publish=not_number(1)):
        for _ in range(5):
            relay()
            come_due()
    assert states() == ["dead", "waiting"]
    assert (row(1).attempts, row(1).error) == (3, "MessageRefused: not this one")
    assert [(each["key"], each["attempts"]) for each in told] == [("a", 3)]


def test_a_scheduled_message_on_which_the_transport_fails_is_dead_after_its_last_attempt(
    log, settings
):
    """Its time has come, and that is not undone with the batch: each attempt is counted."""
    settings.OUTBOX_INBOX = {**WIRE, "MAX_ATTEMPTS": 3}
    moment = timezone.now() + timedelta(hours=1)
    put(Sold(order="a", number=1), at=moment)
    come_due()
    with playing(publish=raising(ValueError)):
        for _ in range(5):
            relay()
            come_due()
    assert states() == ["dead"]


def test_messages_that_come_due_with_one_that_fails_are_sent(log, settings):
    """The careful walk finds the one that is the cause."""
    moment = timezone.now() + timedelta(hours=1)
    put(*(Sold(order=str(number), number=number) for number in range(1, 4)), at=moment)
    come_due()

    def fail_for_two(messages):
        if any(number_of(each) == 2 for each in messages):
            raise ValueError
        return take_all(messages)

    with playing(publish=fail_for_two):
        relay()
    assert sorted(states()) == ["pending", "sent", "sent"]


def test_a_dead_message_that_is_retried_goes_before_its_followers(log, settings):
    """It has all its attempts again, and the key goes on in order."""
    settings.OUTBOX_INBOX = {**WIRE, "MAX_ATTEMPTS": 1}
    sold(1, 2)
    with playing(publish=not_number(1)):
        relay()
    sold(3)
    retry(Selection(context="shop"))
    relay()
    assert log.of("a") == [1, 2, 3]


def test_followers_of_a_retried_message_that_fails_again_go_on_waiting(log, settings):
    """A retry is no release."""
    settings.OUTBOX_INBOX = {**WIRE, "MAX_ATTEMPTS": 1}
    sold(1, 2)
    with playing(publish=not_number(1)):
        relay()
        retry(Selection(context="shop"))
        relay()
    assert (log == [], states()) == (True, ["dead", "waiting"])


def test_followers_of_a_discarded_message_go(log, settings):
    """The person who discards it says that the others need not wait for it."""
    settings.OUTBOX_INBOX = {**WIRE, "MAX_ATTEMPTS": 1}
    sold(1, 2, 3)
    with playing(publish=not_number(1)):
        relay()
    discard(Selection(context="shop"), "not wanted any more")
    relay()
    assert log.of("a") == [2, 3]
    assert states() == ["discarded", "sent", "sent"]


# Outages


def test_an_outage_costs_no_attempts(log):
    """It is no message's fault; they are all sent when it is over, in order."""
    sold(1, 2, 3)
    with playing(publish=out_of_reach):
        for _ in range(30):
            relay()
            come_due()
    assert set(OutboxMessage.objects.values_list("state", "attempts")) == {("pending", 0)}
    relay()
    assert log.of("a") == [1, 2, 3]


def test_a_partition_rests_during_an_outage(log):
    """The transport is left alone until the pause is over."""
    sold(1)
    calls = []
    part = playing(publish=lambda messages: calls.append(1) or out_of_reach())
    with heard(signals.partition_backed_off) as told, part:
        relay()
        relay()
    assert len(calls) == len(told) == 1
    resting = partition()
    assert (resting.outages, resting.run) == (1, None)
    assert resting.error == "TransportUnavailable: no server answers"
    assert resting.retry_at > timezone.now()


def test_the_pauses_of_an_outage_grow(log, settings):
    """A transport that is down for long is not asked as often."""
    settings.OUTBOX_INBOX = {**WIRE, "BACKOFF": {"first": timedelta(minutes=1), "jitter": 0}}
    sold(1)
    pauses = []
    with playing(publish=out_of_reach):
        for _ in range(3):
            relay()
            pauses.append(round((partition().retry_at - timezone.now()).total_seconds() / 60, 1))
            come_due()
    assert pauses == [1, 2, 4]


def test_an_outage_that_is_over_is_forgotten(log):
    """The next one begins with the shortest pause."""
    sold(1)
    with playing(publish=out_of_reach):
        relay()
    come_due()
    relay()
    over = partition()
    assert (over.outages, over.error, over.retry_at) == (0, "", None)


def test_an_outage_after_a_crash_costs_no_attempts_either(log, settings):
    """Also not while messages are sent one at a time."""
    settings.OUTBOX_INBOX = {**WIRE, "MAX_ATTEMPTS": 2}
    sold(1, 2)
    with playing(publish=out_of_reach):
        for _ in range(4):
            leave_token(Queue.OUTBOX)
            relay()
            come_due()
    assert set(OutboxMessage.objects.values_list("state", "attempts")) == {("pending", 0)}


# Unforeseen errors


def test_an_unexpected_error_counts_against_the_guilty_message_only(log):
    """The others of the batch are sent."""

    def publish(messages):
        if any(message.key == "a" for message in messages):
            raise ZeroDivisionError("by nothing")
        return take_all(messages)

    sold(1, 2, order="b")
    sold(1, 2)
    sold(1, order="c")
    with playing(publish=publish):
        outcome = relay()
    assert (log.of("b"), log.of("c"), log.of("a")) == ([1, 2], [1], [])
    assert (outcome.done, outcome.failed) == (3, 1)
    assert states(key="a") == ["pending", "waiting"]
    assert OutboxMessage.objects.get(key="a", attempts=1).error == "ZeroDivisionError: by nothing"


def test_after_an_unexpected_error_the_rest_goes_in_batches_again(log, settings):
    """One at a time is slow, so it lasts for the batch in question only."""
    settings.OUTBOX_INBOX = {**WIRE, "BATCH_SIZE": 3}
    sold(*range(1, 10))
    sizes = []

    def publish(messages):
        sizes.append(len(messages))
        if len(sizes) == 1:
            raise ZeroDivisionError
        return take_all(messages)

    with playing(publish=publish):
        relay()
    assert log.of("a") == [*range(1, 10)]
    assert sizes == [3, 1, 1, 1, 3, 3]


def test_an_interruption_leaves_the_partition_with_a_clean_end(log):
    """Nothing is marked, no attempt counted, and the next run is an ordinary one."""

    def publish(messages):
        raise KeyboardInterrupt

    sold(1, 2)
    with playing(publish=publish), pytest.raises(KeyboardInterrupt):
        relay()
    assert partition().run is None
    assert set(OutboxMessage.objects.values_list("state", "attempts")) == {("pending", 0)}


def test_a_transport_that_says_nothing_of_a_message_is_asked_again_later(log, settings):
    """Neither confirmed nor refused: the call ends instead of turning in circles."""
    settings.OUTBOX_INBOX = {**WIRE, "BATCH_SIZE": 2}
    sold(1, 2, 3)
    asked = []

    def publish(messages):
        asked.append(len(messages))
        assert len(asked) < 10, "the relay turns in circles"
        return Published(sent=[])

    with playing(publish=publish):
        relay()
    assert row(1).error == "MessageRefused: the transport neither confirmed nor refused it"
    come_due()
    relay()
    assert log.of("a") == [1, 2, 3]


def test_an_error_of_the_callers_progress_bar_is_not_taken_for_one_of_a_message(log):
    """It comes after the commit, and is the caller's own."""
    sold(1, 2)
    with pytest.raises(ZeroDivisionError):
        relay(progress=lambda count: 1 / 0)
    assert set(OutboxMessage.objects.values_list("state", "attempts")) == {("sent", 0)}
    assert partition().run is None


@pytest.mark.parametrize("after_a_crash", [False, True])
def test_a_database_that_is_locked_for_too_long_is_no_failed_attempt(
    log, monkeypatch, after_a_crash
):
    """No attempt is counted; the error is raised."""
    sold(1, 2)
    if after_a_crash:
        leave_token(Queue.OUTBOX)
    lock, locks = Run.lock, []

    def be_locked(run):
        locks.append(run)
        if len(locks) == 1 + after_a_crash:
            raise OperationalError("database is locked")
        lock(run)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "lock", be_locked)
        with pytest.raises(OperationalError):
            relay()
    assert {row.attempts for row in OutboxMessage.objects.all()} == {0}
    relay()
    assert log.of("a") == [1, 2]


@pytest.mark.server
def test_a_lost_connection_is_raised_and_costs_no_attempt(log):
    """It is the fault of no message; as after a crash, the next run is careful."""

    def publish(messages):
        end_session(session())

    sold(1, 2)
    with playing(publish=publish), pytest.raises(OperationalError):
        relay()
    assert set(OutboxMessage.objects.values_list("state", "attempts")) == {("pending", 0)}
    assert partition().run is not None
    fall_silent()
    relay()
    assert log.of("a") == [1, 2]


# Crashes


def test_a_message_is_marked_after_the_transport_has_confirmed_it(log):
    """Rule O1: a crash in between sends it again, with the same id, and never loses it."""
    (envelope,) = sold(1)
    with crashing(), striking("relay.before_mark", crash):
        relay()
    assert states() == ["pending"]
    relay()
    assert [message.id for message in wire.confirmed] == [envelope.id] * 2


def test_a_crash_before_the_transport_was_asked_loses_nothing(log):
    """Nothing is marked before it was sent."""
    sold(1)
    with crashing(), striking("relay.before_publish", crash):
        relay()
    assert (log == [], states()) == (True, ["pending"])
    relay()
    assert log.of("a") == [1]


def test_a_crash_leaves_the_token_and_a_clean_end_does_not(log):
    """The token is how the next run knows."""
    sold(1)
    with crashing(), striking("relay.after_publish", crash):
        relay()
    assert partition().run is not None
    relay()
    assert partition().run is None


def test_after_a_crash_each_attempt_is_committed_before_it_is_made(log):
    """Rule O9: otherwise a message that kills its worker would do so for ever."""
    sold(1, 2)
    leave_token(Queue.OUTBOX)
    seen = []

    with Worker() as other:

        def publish(messages):
            (message,) = messages
            row = other.do(OutboxMessage.objects.get, id=message.row)
            seen.append((row.state, row.attempts))
            return Published(sent=[message.row])

        with playing(publish=publish):
            relay()
    assert seen == [("pending", 1)] * 2


def test_a_message_that_kills_its_worker_is_dead_in_the_end(log, settings):
    """Rule O9: after MAX_ATTEMPTS crashes it waits for a person; the innocent are sent."""
    settings.OUTBOX_INBOX = {**WIRE, "MAX_ATTEMPTS": 3}
    sold(1, 2, 3)
    sold(1, 2, 3, order="b")

    def publish(messages):
        if any((message.key, number_of(message)) == ("a", 2) for message in messages):
            raise Crash
        return take_all(messages)

    with playing(publish=publish):
        for _ in range(1 + 3):
            with crashing():
                relay()
        relay()
    assert states(key="a") == ["sent", "dead", "waiting"]
    assert states(key="b") == ["sent"] * 3
    assert "the worker ended without warning" in OutboxMessage.objects.get(state="dead").error


def test_after_a_crash_one_at_a_time_lasts_for_one_batch(log, settings):
    """What was to be found out is found out then, and the backlog goes quickly again."""
    settings.OUTBOX_INBOX = {**WIRE, "BATCH_SIZE": 4}
    sold(*range(1, 11))
    leave_token(Queue.OUTBOX)
    batches = []
    relay(progress=batches.append)
    assert batches == [1, 1, 1, 1, 4, 2]
