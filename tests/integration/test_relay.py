"""The relay: everything that was recorded is sent, in order, whatever the transport does."""

from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from outbox_inbox import record, signals
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import SettingsError, TransportUnavailable
from outbox_inbox.models import InboxMessage, OutboxMessage, Partition, Queue
from outbox_inbox.operations import Selection, discard, pause, repartition, resume, retry
from outbox_inbox.queues import run as run_module
from outbox_inbox.queues.run import Run
from outbox_inbox.testing import advance
from outbox_inbox.transports import Published
from tests.shop.contracts import Sold
from tests.shop.events import Loose, Noted, Unheard
from tests.support import wire
from tests.support.movers import (
    Crash,
    Worker,
    come_due,
    crash,
    crashing,
    end_session,
    fall_silent,
    leave_token,
    put,
    relay,
    session,
    states,
    steps,
    striking,
    together,
)
from tests.support.script import playing
from tests.support.wire import WIRE, refusing

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def log(settings):
    """What the wire has confirmed, as (key, number)."""
    settings.OUTBOX_INBOX = WIRE
    wire.confirmed.clear()
    return Log()


class Log:
    """Looks at the wire."""

    def __eq__(self, other):
        return self.all() == other

    __hash__ = None

    def all(self):
        """Return everything, as (key, number)."""
        return [(message.key, number_of(message)) for message in wire.confirmed]

    def of(self, key):
        """Return the numbers of one key."""
        return [number for sent, number in self.all() if sent == key]


def number_of(message):
    """Return the number of the step in a message of the wire."""
    return int(message.data.split('"number":')[1].split(",")[0])


def sold(*numbers, order="a"):
    """Record contracts."""
    return put(*steps(Sold, numbers, order))


def not_number(*numbers, key="a"):
    """Return a part for ``publish`` that refuses these messages of one key."""
    return refusing(lambda message: message.key == key and number_of(message) in numbers)


def out_of_reach(messages):
    """Be a transport that cannot be reached."""
    raise TransportUnavailable("nobody answers")


def partition():
    """Return the one partition of the shop's outbox."""
    return Partition.objects.get(context="shop", queue=Queue.OUTBOX)


def row(number):
    """Return a message of the outbox by the number of its step."""
    return OutboxMessage.objects.get(payload__contains=f'"number":{number},')


def received(signal, into):
    """Connect a list to a signal for the rest of the test."""

    def receive(**told):
        into.append(told)

    signal.connect(receive, weak=False)
    return receive


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


@pytest.mark.postgres
@pytest.mark.mariadb
@pytest.mark.mysql
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


def test_what_nobody_consumes_is_done_when_it_is_sent():
    """It is kept in the inbox, with no delivery."""
    put(Unheard(order="a", number=1))
    relay()
    assert states() == ["sent"]
    assert InboxMessage.objects.get().deliveries.count() == 0


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
    told = []
    receiver = received(signals.message_dead, told)
    with playing(publish=not_number(1)):
        for _ in range(5):
            relay()
            come_due()
    signals.message_dead.disconnect(receiver)
    assert states() == ["dead", "waiting"]
    assert (row(1).attempts, row(1).error) == (3, "MessageRefused: not this one")
    assert [(each["key"], each["attempts"]) for each in told] == [("a", 3)]


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
    discard(Selection(context="shop"), "nobody wants it")
    relay()
    assert log.of("a") == [2, 3]
    assert states() == ["discarded", "sent", "sent"]


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
        return Published(sent=[message.row for message in messages])

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
    told = []
    receiver = received(signals.partition_backed_off, told)
    with playing(publish=lambda messages: calls.append(1) or out_of_reach(messages)):
        relay()
        relay()
    signals.partition_backed_off.disconnect(receiver)
    assert len(calls) == len(told) == 1
    resting = partition()
    assert (resting.outages, resting.run) == (1, None)
    assert resting.error == "TransportUnavailable: nobody answers"
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


# Errors that nobody foresaw


def test_an_unexpected_error_counts_against_the_guilty_message_only(log):
    """The others of the batch are sent."""

    def publish(messages):
        if any(message.key == "a" for message in messages):
            raise ZeroDivisionError("by nothing")
        return Published(sent=[message.row for message in messages])

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
        return Published(sent=[message.row for message in messages])

    with playing(publish=publish):
        relay()
    assert log.of("a") == [*range(1, 10)]
    assert sizes == [3, 1, 1, 1, 3, 3]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_leaves_the_partition_with_a_clean_end(log, error):
    """Nothing is marked, no attempt counted, and the next run is an ordinary one."""

    def publish(messages):
        raise error

    sold(1, 2)
    with playing(publish=publish), pytest.raises(error):
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
    """No message was touched; the error is raised."""
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
    assert {row.error for row in OutboxMessage.objects.all()} == {""}
    relay()
    assert log.of("a") == [1, 2]


@pytest.mark.postgres
@pytest.mark.mariadb
@pytest.mark.mysql
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
        return Published(sent=[message.row for message in messages])

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
    sold(1)
    settings.OUTBOX_INBOX = {**WIRE, "PARTITIONS": {"outbox": 3}}
    with pytest.raises(SettingsError, match=r"manage\.py repartition"):
        relay()
    assert log == []


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
    """The second relay does not wait; it says that somebody is busy."""
    sold(1, 2)
    others = []

    with Worker() as other:

        def publish(messages):
            if connection.vendor != "sqlite":
                others.append(other.do(relay))
            return Published(sent=[message.row for message in messages])

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


@pytest.mark.postgres
@pytest.mark.mariadb
@pytest.mark.mysql
def test_a_message_costs_a_fiftieth_of_a_statement():
    """Domain events with one consumer, from the outbox to the inbox."""
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
