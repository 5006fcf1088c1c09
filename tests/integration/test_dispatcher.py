"""The dispatcher: once, in order, within its limits, and what translators make of it."""

import pytest

from outbox_inbox import record
from outbox_inbox.inbox import execution
from outbox_inbox.models import Delivery, DeliveryAttempt, InboxMessage, OutboxMessage, Partition
from tests.depot.events import Wanted
from tests.shop.contracts import Sold
from tests.shop.events import Checked, Closed, Counted, Grown, Listed, Loose, Noted, Opened
from tests.support.handling import delivery, each_way, numbers
from tests.support.movers import (
    come_due,
    crash,
    crashing,
    deliver,
    delivery_states,
    dispatch,
    entries,
    failing,
    picks,
    put,
    receive,
    relay,
    steps,
    striking,
)
from tests.support.script import playing

pytestmark = pytest.mark.usefixtures("committed")


# Once and in order


@each_way
def test_every_message_is_handled_once_and_in_order(consumer, event):
    """Over several partitions, keys and transactions."""
    for number in range(1, 8):
        deliver(*(event(order=order, number=number) for order in "abcde"))
    dispatch()
    dispatch()
    assert all(entries(consumer, order) == [*range(1, 8)] for order in "abcde")
    assert set(delivery_states(consumer)) == {"done"}


@each_way
def test_effects_and_mark_are_committed_together(one, consumer, event):
    """Rule O5: after a crash just before the commit there is neither, and then there are both."""
    deliver(*steps(event, 3))
    with crashing(), striking("dispatch.before_commit", crash):
        dispatch()
    assert entries(consumer) == []
    assert delivery_states(consumer) == ["ready"] * 3
    dispatch()
    assert entries(consumer) == [1, 2, 3]


@each_way
def test_a_crash_just_after_the_commit_repeats_nothing(one, consumer, event):
    """What is committed is done."""
    deliver(*steps(event, 3))
    with crashing(), striking("dispatch.after_commit", crash):
        dispatch()
    dispatch()
    assert entries(consumer) == [1, 2, 3]


@each_way
def test_an_error_after_the_commit_repeats_nothing(one, consumer, event):
    """Whatever goes wrong then, the effects are there, and so is the mark."""
    deliver(*steps(event, 3))
    with striking("dispatch.after_commit", lambda: 1 / 0):
        dispatch()
    dispatch()
    assert entries(consumer) == [1, 2, 3]
    assert not DeliveryAttempt.objects.exists()


@each_way
def test_an_error_of_the_callers_progress_bar_repeats_nothing(one, consumer, event):
    """It is the caller's own, comes after the commit, and the partition has a clean end."""
    deliver(*steps(event, 3))
    with pytest.raises(ZeroDivisionError):
        dispatch(progress=lambda count: 1 / 0)
    dispatch()
    assert entries(consumer) == [1, 2, 3]
    assert not Partition.objects.filter(run__isnull=False).exists()


def test_a_handler_of_two_events_keeps_one_order_for_both():
    """It is one consumer, with one delivery for each message of either class."""
    deliver(Opened(order="a", number=1), Closed(order="a", number=2), Opened(order="a", number=3))
    with playing(follow=failing(2)):
        dispatch()
    assert entries("follow") == [1]
    come_due()
    dispatch()
    assert entries("follow") == [1, 2, 3]


def test_a_handler_may_ask_for_the_envelope():
    """It is the second argument: of a list handler a list."""
    seen = []
    recorded = deliver(*steps(Noted, 2)) + deliver(*steps(Listed, 2))
    with playing(
        witness=lambda event, envelope: seen.append((event, envelope)),
        survey=lambda events, envelopes: seen.extend(zip(events, envelopes, strict=True)),
    ):
        dispatch()
    events = {(type(event).__name__, event.number) for event, _ in seen}
    assert events == {("Noted", 1), ("Noted", 2), ("Listed", 1), ("Listed", 2)}
    assert {envelope.id for _, envelope in seen} == {envelope.id for envelope in recorded}


def test_a_list_handler_gets_what_there_is_in_one_call(one):
    """Up to BATCH_SIZE events of one partition, of any keys, in order."""
    deliver(*steps(Listed, 3), *steps(Listed, 2, "b"))
    calls = []
    with playing(enlist=lambda events: calls.append(numbers(events))):
        dispatch()
    assert calls == [[1, 2, 3, 1, 2]]


def recorded_by_list(*hops):
    """Hand a list of messages with so many hops to a handler; return them, and what it records."""
    given = deliver(*steps(Listed, len(hops)))
    for envelope, number in zip(given, hops, strict=True):
        InboxMessage.objects.filter(message_id=envelope.id).update(hops=number)
    with playing(enlist=lambda events: record(Loose(order="a", number=1))):
        dispatch()
    return given, OutboxMessage.objects.get(type="shop.Loose")


def test_what_a_list_handler_records_has_the_last_message_as_its_cause(one):
    """One message can have one cause only, and before the last one the list was not complete."""
    given, made = recorded_by_list(0, 0, 0)
    assert (made.causation_id, made.correlation_id) == (given[-1].id, given[-1].correlation_id)


def test_what_a_list_handler_records_is_behind_the_longest_chain_of_its_list(one):
    """Otherwise a loop that goes through a list would not be found by MAX_HOPS."""
    _, made = recorded_by_list(2, 5, 0)
    assert made.hops == 6


@each_way
def test_what_is_recorded_after_a_message_was_handled_has_no_cause(consumer, event):
    """The thread goes on with other work, which that message has not caused."""
    deliver(*steps(event, 1))
    dispatch()
    (envelope,) = put(Loose(order="a", number=1))
    assert envelope.causation_id is None


# Limits


@each_way
def test_a_limit_is_kept(one, consumer, event):
    """``limit`` counts deliveries, and leaves the partitions with a clean end."""
    deliver(*steps(event, 5))
    Delivery.objects.filter(consumer="shop.handlers.witness").delete()
    Delivery.objects.filter(consumer="shop.handlers.survey").delete()
    assert dispatch(limit=2).done == 2
    assert entries(consumer) == [1, 2]
    assert not Partition.objects.filter(run__isnull=False).exists()


def test_the_dispatcher_stops_between_transactions_when_it_is_told_to(one):
    """What it has begun is finished; nothing else is."""
    deliver(*steps(Loose, 5))
    done = []
    dispatch(progress=done.append, stop=lambda: len(done) == 2)
    assert entries("loose") == [1, 2]


def test_a_batch_is_ended_when_its_time_is_up(one, monkeypatch):
    """BATCH_TIME bounds how long a transaction is open, whatever its handlers take."""
    ticks = iter(range(1_000))
    monkeypatch.setattr(execution.batches, "monotonic", lambda: next(ticks))
    deliver(*steps(Counted, 3))
    batches = []
    dispatch(progress=batches.append)
    assert batches == [1, 1, 1]
    assert entries("count") == [1, 2, 3]


def test_a_batch_of_quick_handlers_is_one_transaction(one):
    """Many messages share a commit."""
    deliver(*steps(Counted, 20))
    batches = []
    dispatch(progress=batches.append)
    assert batches == [20]


# Messages that cannot be handled here and now


def test_a_delivery_of_an_unknown_consumer_is_left(settings):
    """A process of the newer code has it: nothing is tried here, and other consumers go on."""
    deliver(*steps(Noted, 2))
    Delivery.objects.filter(consumer="shop.handlers.note").update(consumer="shop.handlers.nota")
    outcome = dispatch()
    assert (outcome.failed, outcome.done) == (0, 2)
    assert (delivery("nota").state, delivery("nota").attempts) == ("ready", 0)


def test_a_delivery_that_was_left_is_handled_by_a_process_that_has_its_consumer(settings):
    """It is there at once, in the order of its key."""
    deliver(*steps(Noted, 2))
    Delivery.objects.filter(consumer="shop.handlers.note").update(consumer="shop.handlers.nota")
    dispatch()
    Delivery.objects.filter(consumer="shop.handlers.nota").update(consumer="shop.handlers.note")
    dispatch()
    assert entries() == [1, 2]


def test_a_newer_version_is_left():
    """Its sender was deployed before this process, and another one can read it."""
    deliver(*steps(Noted, 1))
    InboxMessage.objects.update(schema_version=2)
    assert (dispatch().failed, delivery_states(), delivery("note").attempts) == (0, ["ready"], 0)


def test_a_version_that_was_left_is_handled_by_a_process_that_can_read_it():
    """It is there at once."""
    deliver(*steps(Noted, 1))
    InboxMessage.objects.update(schema_version=2)
    dispatch()
    InboxMessage.objects.update(schema_version=1)
    dispatch()
    assert entries() == [1]


def test_an_older_version_is_upcast():
    """A message that waited through a deployment is read as what it would be today."""
    deliver(Grown(order="a", number=1))
    InboxMessage.objects.update(schema_version=1, payload='{"count":7,"order":"a"}')
    dispatch()
    assert entries("grow") == [7]


@each_way
@pytest.mark.parametrize("payload", ["no JSON", '{"order":"a"}', "[" * 100_000, '"\\ud800"'])
def test_an_unreadable_payload_is_dead_for_its_consumer_only(one, consumer, event, payload):
    """It is dead at once, holds its key there, and no other consumer notices."""
    deliver(*steps(event, 1), *steps(event, 2, "b"))
    InboxMessage.objects.filter(key="a").update(payload=payload)
    deliver(*steps(event, [2]))
    dispatch()
    assert delivery_states(consumer, key="a") == ["dead", "waiting"]
    assert entries(consumer, "b") == [1, 2]


def test_a_contract_is_read_strictly_when_it_is_handled_too():
    """It came from outside, so it is checked again: a name that stands twice is refused."""
    put(Sold(order="a", number=1))
    relay("shop")
    receive("depot")
    InboxMessage.objects.filter(context="depot").update(
        payload='{"number":1,"number":2,"order":"a"}'
    )
    assert (dispatch("depot").done, picks("watch")) == (0, [])
    assert "one object has the key" in Delivery.objects.filter(context="depot")[0].error


def test_unreadable_headers_are_dead_like_an_unreadable_payload():
    """An envelope cannot be made of them."""
    deliver(*steps(Noted, 1))
    InboxMessage.objects.update(headers='{"a":1}')
    dispatch()
    assert delivery_states() == ["dead"]


# Translators


def test_an_outbound_translator_records_a_contract():
    """In the outbox, with its cause, in the transaction of its delivery."""
    (cause,) = deliver(Checked(order="a", number=1), headers={"who": "me"})
    dispatch()
    made = OutboxMessage.objects.get(type="shop.sold")
    assert (made.key, made.payload) == ("a", '{"number":1,"order":"a"}')
    assert (made.causation_id, made.correlation_id) == (cause.id, cause.id)


@pytest.mark.parametrize("several", [list, tuple])
def test_a_translator_may_make_several_events(several):
    """A list or a tuple of them, in order."""
    deliver(Checked(order="a", number=1))
    with playing(announce=lambda event: several(steps(Sold, 3))):
        dispatch()
    rows = OutboxMessage.objects.filter(type="shop.sold").order_by("id")
    assert [row.payload[10] for row in rows] == ["1", "2", "3"]


@pytest.mark.parametrize("nothing", [None, [], ()])
def test_a_translator_may_make_nothing(nothing):
    """Not every fact is of interest to others."""
    deliver(Checked(order="a", number=1))
    with playing(announce=lambda event: nothing):
        dispatch()
    assert delivery_states("outbound") == ["done"]
    assert not OutboxMessage.objects.filter(type="shop.sold").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        "text",
        [Sold(order="a", number=1), None],
        Noted(order="a", number=1),
        Wanted(order="a", number=1),
        (event for event in ()),
    ],
    ids=["text", "None in a list", "a domain event", "an event of another context", "generator"],
)
def test_a_translator_that_returns_something_else_has_failed(one, wrong):
    """What it made is not stored, and its neighbours in the batch are not touched."""
    deliver(Checked(order="a", number=1), Checked(order="b", number=1))
    with playing(announce=lambda e: wrong if e.order == "a" else Sold(order="b", number=1)):
        dispatch()
    assert delivery("outbound", key="a").error.startswith("HandlerError: the outbound translator")
    assert list(OutboxMessage.objects.filter(type="shop.sold").values_list("key", flat=True)) == [
        "b"
    ]


def test_a_translator_that_speaks_for_another_context_has_failed(one):
    """An event belongs to the context of its class, wherever it is made."""
    from tests.depot.contracts import Sold as View

    deliver(Checked(order="a", number=1), Sold(order="a", number=1))
    with playing(
        announce=lambda event: View(order="a", number=1),
        want=lambda event: Noted(order="a", number=1),
    ):
        dispatch()
        dispatch("depot")
    for consumer in ("outbound", "inbound"):
        assert "expected " in delivery(consumer).error
    assert InboxMessage.objects.count() == OutboxMessage.objects.count() == 2


def test_an_invalid_event_of_a_translator_is_its_failed_attempt(one):
    """What record() would refuse is refused here as well, before it can break the batch."""
    deliver(Checked(order="a", number=1), Checked(order="b", number=1))
    with playing(announce=lambda e: Sold(order=e.order, number="1" if e.order == "a" else 1)):
        dispatch()
    assert delivery("outbound", key="a").error.startswith("InvalidEvent: Sold: number")
    assert list(OutboxMessage.objects.filter(type="shop.sold").values_list("key", flat=True)) == [
        "b"
    ]


def test_an_inbound_translator_puts_its_event_into_the_own_inbox():
    """In the transaction of its delivery, so that it is there exactly once; it is handled next."""
    from tests.support.movers import picks

    deliver(Sold(order="a", number=1))
    dispatch("depot")
    assert (picks("pick"), picks("watch")) == ([1], [1])
    made = InboxMessage.objects.get(type="depot.Wanted")
    cause = InboxMessage.objects.get(type="shop.sold")
    assert (made.context, made.source, made.key) == ("depot", "depot", "a")
    assert (made.causation_id, made.correlation_id, made.hops) == (
        cause.message_id,
        cause.correlation_id,
        cause.hops + 1,
    )
    assert not OutboxMessage.objects.filter(context="depot").exists()


def test_what_a_translator_made_is_undone_when_its_batch_is(one):
    """Neither contract nor mark are there after a crash, and then both are, once."""
    deliver(*steps(Checked, 3))
    with crashing(), striking("dispatch.before_commit", crash):
        dispatch()
    assert not OutboxMessage.objects.filter(type="shop.sold").exists()
    dispatch()
    rows = OutboxMessage.objects.filter(type="shop.sold").order_by("id")
    assert [row.payload[10] for row in rows] == ["1", "2", "3"]


def test_what_translators_make_keeps_the_order_of_their_events(one):
    """Also when some of them have failed before."""

    def part(event):
        failing(2)(event)
        return Sold(order=event.order, number=event.number)

    deliver(*steps(Checked, 3))
    with playing(announce=part):
        dispatch()
    deliver(*steps(Checked, [4]))
    come_due()
    dispatch()
    rows = OutboxMessage.objects.filter(type="shop.sold").order_by("id")
    assert [row.payload[10] for row in rows] == ["1", "2", "3", "4"]
