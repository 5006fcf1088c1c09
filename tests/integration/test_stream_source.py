"""A context without an outbox: the relay follows its stream, with the same routing and promises."""

from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from outbox_inbox import DuplicateMessage, InvalidEvent, PermanentError, record
from outbox_inbox.checks.subscriptions import check_source
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import ForeignCheckpoint
from outbox_inbox.models import InboxMessage, OutboxMessage, Queue, StoredEvent
from outbox_inbox.operations import Selection, due_count, queue_stats, repartition, retry
from outbox_inbox.operations.running.due import due_movers
from outbox_inbox.outbox import stream_relay
from outbox_inbox.testing import advance, drain, recorded
from tests.shop.contracts import Sold
from tests.shop.events import Checked, Noted
from tests.support.movers import (
    Broken,
    Crash,
    Worker,
    come_due,
    count_states,
    crash,
    crashing,
    delivery_states,
    dispatch,
    entries,
    failing,
    fall_silent,
    leave_token,
    picks,
    put,
    relay,
    run_all,
    states,
    steps,
    striking,
    together,
)
from tests.support.relaying import not_number, out_of_reach, partition
from tests.support.script import playing
from tests.support.wire import WIRE, take_all

pytestmark = [pytest.mark.catch_up, pytest.mark.usefixtures("committed")]

STREAM = {"CONTEXTS": {"shop": {"source": "stream"}}}


@pytest.fixture(autouse=True)
def source(settings):
    """The shop is its own source."""
    settings.OUTBOX_INBOX = STREAM


@pytest.fixture
def sent(log, settings):
    """A transport in the test's hands, and what it has confirmed."""
    settings.OUTBOX_INBOX = {**WIRE, **STREAM}
    return log


def pending():
    """Return how much the relay has still to send, as the figures say."""
    (outbox,) = (each for each in queue_stats([get_context("shop")]) if each.queue == Queue.OUTBOX)
    assert due_count(get_context("shop"), Queue.OUTBOX) == outbox.depth["pending"]
    return outbox.depth["pending"]


# Recording


def test_what_is_recorded_is_in_the_stream_only():
    """There is no row in the outbox, with a stream or without one."""
    put(*steps(Noted, 2), stream="order-1")
    (envelope,) = put(Noted(order="b", number=1))
    assert not OutboxMessage.objects.exists()
    found = StoredEvent.objects.order_by("position").values_list("stream", "version")
    assert list(found) == [("order-1", 1), ("order-1", 2), (str(envelope.id), 1)]


def test_an_id_of_the_callers_own_is_recorded_once():
    """A repeated call is refused, and the transaction stays usable."""
    (envelope,) = put(Noted(order="a", number=1))
    with transaction.atomic():
        with pytest.raises(DuplicateMessage):
            record(Noted(order="a", number=1), message_id=envelope.id)
        record(Noted(order="a", number=2))
    assert StoredEvent.objects.count() == 2


def test_a_message_for_the_future_waits_in_the_outbox():
    """It is no fact yet, so no stream has it; it is sent when its time has come."""
    put(Noted(order="a", number=1), at=timezone.now() + timedelta(hours=1))
    assert not StoredEvent.objects.exists()
    drain()
    assert entries() == []
    advance(timedelta(hours=2))
    drain()
    assert entries() == [1]


def test_a_fact_is_not_for_the_future():
    """``at`` together with ``stream`` is refused before any SQL, with the reason."""
    with pytest.raises(InvalidEvent, match="an event in a stream is a fact, and is sent at once"):
        put(Noted(order="a", number=1), stream="a", at=timezone.now() + timedelta(hours=1))
    assert not StoredEvent.objects.exists()


def test_a_test_sees_what_was_recorded():
    """``recorded()`` looks into the stream, and at what is scheduled."""
    put(*steps(Noted, 2), stream="a")
    put(Noted(order="a", number=3), at=timezone.now() + timedelta(hours=1))
    assert [each.number for each in recorded(Noted)] == [1, 2, 3]


# Sending


def test_domain_events_go_to_the_own_inbox():
    """In order, with nothing in the outbox on the way."""
    put(*steps(Noted, 3), stream="a")
    put(*steps(Noted, [4, 5]))
    assert relay().done == 5
    assert (
        list(InboxMessage.objects.order_by("id").values_list("source", flat=True)) == ["shop"] * 5
    )
    dispatch()
    assert entries() == [1, 2, 3, 4, 5]
    assert not OutboxMessage.objects.exists()


def test_contracts_go_to_their_subscribers():
    """Also those that a translator makes of domain events; each arrives once."""
    put(*steps(Checked, 3), stream="a")
    put(Sold(order="b", number=1))
    run_all()
    assert (picks(), picks(order="b")) == ([1, 2, 3], [1])
    assert not OutboxMessage.objects.exists()
    assert relay().steps == 0


def test_what_was_sent_is_not_sent_again(sent):
    """The checkpoint goes on with each page, whatever its size."""
    put(*steps(Sold, 5), stream="a")
    assert relay(limit=2).done == 2
    assert relay().done == 3
    assert relay().done == 0
    assert sent == [("a", number) for number in range(1, 6)]


@pytest.mark.postgres
def test_what_commits_late_is_sent_late():
    """A transaction with an early position keeps no other waiting, and is sent when it commits."""
    with Worker() as slow:
        with slow.transaction():
            slow.do(record, Noted(order="slow", number=1), stream="slow")
            put(*steps(Noted, 2), stream="a")
            relay()
            dispatch()
            assert (entries(), entries(order="slow")) == ([1, 2], [])
        relay()
        dispatch()
    assert entries(order="slow") == [1]


def test_many_relays_send_each_message_once():
    """One of them has the lock; the others find nothing to do."""
    put(*steps(Noted, 50), stream="a")
    together(*[relay] * 4)
    relay()
    dispatch()
    assert entries() == list(range(1, 51))


def test_hops_are_counted_through_the_stream():
    """Two handlers that answer each other are stopped by MAX_HOPS."""
    with playing(note=lambda event: record(Noted(order="a", number=event.number + 1))):
        put(Noted(order="a", number=1))
        run_all()
    assert max(StoredEvent.objects.values_list("hops", flat=True)) == 32
    assert "dead" in delivery_states()


# Failing


def test_a_refused_message_waits_in_the_outbox(sent):
    """It is tried again with back-off; the later ones of its key wait behind it, others do not."""
    put(*steps(Sold, 3), stream="a")
    put(*steps(Sold, 2, order="b"), stream="b")
    with playing(publish=not_number(1)):
        relay()
    assert sent == [("b", 1), ("b", 2)]
    assert states() == ["pending", "waiting", "waiting"]
    put(*steps(Sold, [4]), stream="a")
    relay()
    assert sent == [("b", 1), ("b", 2)]
    come_due()
    relay()
    assert sent == [("b", 1), ("b", 2), *(("a", number) for number in range(1, 5))]


def test_a_message_that_is_refused_for_ever_is_dead(sent, settings):
    """Its key is parked, and goes on in order when a person retries it."""
    settings.OUTBOX_INBOX = {**WIRE, **STREAM, "MAX_ATTEMPTS": 1}
    put(*steps(Sold, 3), stream="a")
    with playing(publish=not_number(1)):
        relay()
    put(*steps(Sold, [4]), stream="a")
    relay()
    assert count_states(OutboxMessage) == {"dead": 1, "waiting": 3}
    assert sent == []
    retry(Selection(context="shop"))
    relay()
    assert sent == [("a", number) for number in range(1, 5)]


def test_a_dead_message_holds_what_comes_later_in_the_stream(sent, settings):
    """Although nothing of its key waits in the outbox yet."""
    settings.OUTBOX_INBOX = {**WIRE, **STREAM, "MAX_ATTEMPTS": 1}
    put(*steps(Sold, [1]), stream="a")
    with playing(publish=not_number(1)):
        relay()
    put(*steps(Sold, [2]), stream="a")
    relay()
    assert (count_states(OutboxMessage), sent) == ({"dead": 1, "waiting": 1}, [])


def test_an_outage_costs_no_attempt(sent):
    """The partition rests, the stream keeps the messages, and all are sent afterwards."""
    put(*steps(Sold, 3), stream="a")
    with playing(publish=out_of_reach):
        relay()
    assert partition().outages == 1
    assert not OutboxMessage.objects.exists()
    assert pending() == 3
    relay()
    assert sent == []
    come_due()
    relay()
    assert sent == [("a", 1), ("a", 2), ("a", 3)]
    assert partition().outages == 0


def test_one_poisonous_message_is_found_among_many(sent):
    """A transport that raises something unknown fails one message; the others are sent."""

    def explode(messages):
        if any(each.key == "b" for each in messages):
            raise Broken("no idea")
        return take_all(messages)

    put(*steps(Sold, 2), stream="a")
    put(*steps(Sold, 2, order="b"), stream="b")
    put(*steps(Sold, 2, order="c"), stream="c")
    with playing(publish=explode):
        relay()
    assert sent == [("a", 1), ("a", 2), ("c", 1), ("c", 2)]
    assert OutboxMessage.objects.get(holds=True).error == "Broken: no idea"
    come_due()
    relay()
    assert sent.all()[4:] == [("b", 1), ("b", 2)]


@pytest.mark.parametrize(
    "point",
    ["relay.after_select", "relay.before_publish", "relay.after_publish", "relay.after_mark"],
)
def test_a_crash_loses_and_repeats_nothing(point):
    """Whatever the relay was at, its transaction is undone as a whole, and done again."""
    put(*steps(Checked, 3), stream="a")
    put(Sold(order="b", number=1))
    with striking(point, crash), crashing():
        relay()
    run_all()
    assert (picks(), picks(order="b")) == ([1, 2, 3], [1])


def test_after_a_crash_messages_are_sent_one_by_one(sent, settings):
    """A message that kills its worker runs out of attempts, and holds up no other key."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "MAX_ATTEMPTS": 3}

    def kill(messages):
        if any(each.key == "b" for each in messages):
            crash()
        return take_all(messages)

    put(*steps(Sold, 1), stream="a")
    put(*steps(Sold, 1, order="b"), stream="b")
    with playing(publish=kill):
        for _ in range(25):
            with suppress(Crash):
                relay()
            fall_silent()
            come_due()
    assert sent == [("a", 1)]
    assert count_states(OutboxMessage) == {"sent": 1, "dead": 1}


def test_a_stream_that_cannot_be_read_is_an_error(monkeypatch):
    """It is not an event's fault, and trying again at once would not end."""

    def refuse(*_):
        raise ForeignCheckpoint("run manage.py rebase_checkpoints")

    put(*steps(Noted, 2), stream="a")
    monkeypatch.setattr(stream_relay, "open_cursor", refuse)
    with pytest.raises(ForeignCheckpoint):
        relay()
    assert not OutboxMessage.objects.exists()


def test_a_handler_that_fails_is_tried_again():
    """In the inbox everything is as it was."""
    put(*steps(Noted, 2), stream="a")
    relay()
    with playing(note=failing(1)):
        dispatch()
    assert delivery_states() == ["ready", "waiting"]
    come_due()
    dispatch()
    assert entries() == [1, 2]


def test_a_permanent_error_is_dead_at_once():
    """The dead letter is in the inbox, and its key is parked."""
    put(*steps(Noted, 2), stream="a")
    relay()
    with playing(note=failing(1, error=PermanentError)):
        dispatch()
    assert delivery_states() == ["dead", "waiting"]


# Watching


def test_a_database_that_can_serve_it_passes_the_check():
    """E010 is for databases that cannot follow a stream; PostgreSQL and SQLite can."""
    assert list(check_source(get_context("shop"))) == []


def test_the_figures_count_what_is_in_the_stream():
    """What is not sent yet is pending, with its age."""
    assert pending() == 0
    put(*steps(Noted, 3), stream="a")
    assert pending() == 3
    relay(limit=1)
    assert pending() == 2
    relay()
    assert pending() == 0


def test_a_worker_sees_that_there_is_something_to_relay():
    """The look around names the relay when the stream has something, and not when it has nothing."""
    relay()

    def works():
        return {work for work in due_movers("default", ["shop"])["shop"] if work == "relay"}

    assert works() == set()
    put(*steps(Noted, 1), stream="a")
    assert works() == {"relay"}
    relay()
    assert works() == set()


# Changing the source


def test_from_the_outbox_to_the_stream_nothing_is_lost_or_sent_twice(settings):
    """What is in the outbox is sent from there, before the later messages of its key."""
    settings.OUTBOX_INBOX = {}
    put(*steps(Noted, 2), stream="a")
    relay(limit=1)
    settings.OUTBOX_INBOX = STREAM
    repartition()
    put(*steps(Noted, [3, 4]), stream="a")
    run_all()
    assert entries() == [1, 2, 3, 4]
    assert InboxMessage.objects.count() == 4


def test_from_the_stream_to_the_outbox_nothing_is_lost_or_sent_twice(settings):
    """What is left in the stream is sent first."""
    put(*steps(Noted, 3), stream="a")
    relay(limit=1)
    settings.OUTBOX_INBOX = {}
    repartition()
    put(*steps(Noted, [4, 5]), stream="a")
    run_all()
    assert entries() == [1, 2, 3, 4, 5]
    assert InboxMessage.objects.count() == 5


def test_what_is_left_in_the_stream_stays_in_front(sent, settings):
    """What was refused before the change, and what came after it, keep their order."""
    put(*steps(Sold, 3), stream="a")
    with playing(publish=not_number(1)):
        relay(limit=1)
    settings.OUTBOX_INBOX = WIRE
    repartition()
    put(*steps(Sold, [4, 5]), stream="a")
    relay()
    assert sent == []
    come_due()
    relay()
    assert sent == [("a", number) for number in range(1, 6)]


def test_what_a_stream_has_not_sent_is_spread_with_the_change(settings):
    """It goes to the outbox, each key to its partition, before anything that is recorded there."""
    orders = [f"o{number}" for number in range(12)]
    for number in (1, 2):
        put(*(Noted(order=order, number=number) for order in orders), stream="a")
    relay(limit=5)
    settings.OUTBOX_INBOX = {"PARTITIONS": {"outbox": 4}}
    (told, *_) = repartition([get_context("shop")])
    assert (told.before, told.after, told.moved, told.source) == (1, 4, 19, "outbox")
    put(*(Noted(order=order, number=3) for order in orders))
    assert set(OutboxMessage.objects.values_list("partition", flat=True)) == {0, 1, 2, 3}
    run_all()
    assert all(entries(order=order) == [1, 2, 3] for order in orders)


def test_the_outbox_of_a_stream_has_one_partition(settings):
    """Whatever PARTITIONS says: one cursor reads for all keys."""
    settings.OUTBOX_INBOX = {**STREAM, "PARTITIONS": {"outbox": 4}}
    repartition()
    put(*steps(Noted, 3), stream="a")
    put(Noted(order="b", number=1), at=timezone.now() + timedelta(hours=1))
    come_due()
    run_all()
    assert (entries(), entries(order="b")) == ([1, 2, 3], [1])
    assert set(OutboxMessage.objects.values_list("partition", flat=True)) == {0}


def test_a_token_that_was_left_leads_to_a_careful_run():
    """The page after a crash goes through the outbox, one message at a time."""
    put(*steps(Noted, 3), stream="a")
    leave_token(Queue.OUTBOX)
    run_all()
    assert entries() == [1, 2, 3]
    assert count_states(OutboxMessage) == {"sent": 3}
