"""Aggregates: loaded by folding their stream, appended to at the version that was loaded."""

import threading
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from django.db import connections, transaction

from context_a import services as ordering
from context_a.services import OrderLine, OrderRefused, cancel_order, mark_shipped, place_order
from outbox_inbox import ConcurrencyError, DuplicateMessage, InvalidEvent, NotInAtomicBlock, streams
from outbox_inbox.aggregates import Repository, retry_on_conflict
from outbox_inbox.conf import Backoff
from outbox_inbox.exceptions import NotAContext, UnreadableMessage
from outbox_inbox.models import OutboxMessage, StoredEvent
from tests.depot.events import Wanted
from tests.shop.events import Closed, Noted
from tests.support.movers import deliver, dispatch, entries, put, steps, together

pytestmark = pytest.mark.usefixtures("committed")

MAY = date(2026, 5, 1)
CHAI = OrderLine(product="Chai", unit_price=Decimal(18), quantity=2)
ORDER = {
    "customer": "Blåbär & Söner",
    "country": "Sweden",
    "lines": [CHAI],
    "ordered_on": MAY,
    "required_on": MAY,
}

MANY = 100
AT_ONCE = 20
"""How many of them may use the database at one moment: a server has so many connections only."""


@dataclass
class Order:
    """Changed in place by each event."""

    order_id: str
    numbers: tuple[int, ...] = ()
    closed: bool = False

    def apply(self, event):
        """Take in the next event."""
        match event:
            case Noted():
                self.numbers += (event.number,)
            case Closed():
                self.closed = True


@dataclass(frozen=True)
class Frozen:
    """Made anew by each event."""

    order_id: str
    numbers: tuple[int, ...] = ()


def folded(state, event):
    """Return the next state."""
    return replace(state, numbers=(*state.numbers, event.number))


ORDERS = Repository("shop", start=Order, fold=Order.apply, stream="order-{}")


def append(repository, key, /, *events, **terms):
    """Load, and append in a transaction of its own; return what was loaded."""
    with repository.atomic():
        loaded = repository.load(key)
        loaded.append(*events, **terms)
    return loaded


# Loading


def test_an_aggregate_without_events_is_as_it_starts():
    """At version 0; nothing has to be created."""
    order = ORDERS.load("a")
    assert (order.state, order.version, order.stream) == (Order("a"), 0, "order-a")


def test_an_aggregate_is_what_its_events_have_made_of_it():
    """In the order of the stream, and no other stream's."""
    put(*steps(Noted, 3), Closed(order="a", number=4), stream="order-a")
    put(*steps(Noted, [9]), stream="order-b")
    order = ORDERS.load("a")
    assert (order.state, order.version) == (Order("a", (1, 2, 3), closed=True), 4)


def test_a_state_may_be_made_anew_by_a_function():
    """Frozen, by a function that has nothing to do with the class."""
    repository = Repository("shop", start=Frozen, fold=folded, stream="order-{}")
    put(*steps(Noted, 3), stream="order-a")
    assert repository.load("a").state == Frozen("a", (1, 2, 3))


def test_a_state_may_be_any_value():
    """A number has no class of ours."""
    total = Repository(
        "shop", start=lambda _: 0, fold=lambda total, event: total + event.number, stream="order-{}"
    )
    put(*steps(Noted, 3), stream="order-a")
    assert total.load("a").state == 6


@pytest.mark.parametrize("start", [Frozen, lambda _: 0], ids=["frozen", "number"])
def test_a_function_that_forgets_to_return_the_state_is_an_error(start):
    """Nothing would ever happen to the aggregate."""
    repository = Repository("shop", start=start, fold=lambda *_: None, stream="order-{}")
    put(*steps(Noted, 1), stream="order-a")
    with pytest.raises(TypeError, match="fold returned None for Noted"):
        repository.load("a")


@pytest.mark.parametrize(
    ("key", "stream"),
    [(7, "order-7"), (UUID(int=7), f"order-{UUID(int=7)}"), ("{}", "order-{}"), ("a", "order-a")],
)
def test_the_id_stands_in_the_name_of_the_stream(key, stream):
    """A text, a number or a UUID, as it is."""
    assert ORDERS.stream(key) == stream


@pytest.mark.parametrize("key", [None, True, 1.5, b"a"])
def test_what_is_no_id_is_refused(key):
    """``order-None`` would be one stream for all."""
    with pytest.raises(TypeError, match="an aggregate's id is"):
        ORDERS.load(key)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"stream": "order"}, "one {} for the id, not 'order'"),
        ({"stream": "{}-{}"}, "one {} for the id"),
        ({"snapshot_every": -1}, "snapshot_every is a whole number from 1, not -1"),
        ({"snapshot_every": True}, "snapshot_every is"),
        ({"snapshot_version": 0}, "snapshot_version is a whole number from 1, not 0"),
        ({"snapshot_version": "2"}, "snapshot_version is"),
    ],
)
def test_a_repository_that_makes_no_sense_is_refused(given, problem):
    """When it is made, not when it is used."""
    with pytest.raises(ValueError, match=problem):
        Repository("shop", **{"start": Order, "fold": Order.apply, "stream": "order-{}", **given})


def test_a_context_that_does_not_exist_is_an_error():
    """A misspelt label is not an empty stream."""
    with pytest.raises(NotAContext, match="shop"):
        Repository("shap", start=Order, fold=Order.apply, stream="order-{}").load("a")


def test_an_event_that_cannot_be_read_is_an_error():
    """Leaving it out would make another state."""
    put(*steps(Noted, 2), stream="order-a")
    StoredEvent.objects.filter(version=1).update(payload="{")
    with pytest.raises(UnreadableMessage):
        ORDERS.load("a")


# Appending


def test_what_is_appended_is_in_the_stream_and_on_its_way():
    """Appending is recording."""
    append(ORDERS, "a", *steps(Noted, 2))
    assert [each.event for each in streams.read("shop", "order-a")] == steps(Noted, 2)
    deliver(Noted(order="a", number=3), stream="order-a")
    dispatch()
    assert entries() == [1, 2, 3]


def test_the_state_goes_along_with_what_is_appended():
    """So the next decision in the same transaction is made on it, and appended after it."""
    with ORDERS.atomic():
        order = ORDERS.load("a")
        order.append(*steps(Noted, 2))
        assert (order.state, order.version) == (Order("a", (1, 2)), 2)
        order.append(Noted(order="a", number=3))
    again = ORDERS.load("a")
    assert (
        (again.state, again.version) == (order.state, order.version) == (Order("a", (1, 2, 3)), 3)
    )


def test_a_decision_on_an_old_state_is_refused_and_changes_nothing():
    """Neither the stream, nor what was loaded."""
    stale = ORDERS.load("a")
    append(ORDERS, "a", *steps(Noted, 1))
    with ORDERS.atomic(), pytest.raises(ConcurrencyError, match="version 1"):
        stale.append(Noted(order="a", number=9))
    assert (stale.state, stale.version) == (Order("a"), 0)
    assert ORDERS.load("a").state.numbers == (1,)


def test_outside_of_a_transaction_nothing_is_appended():
    """As with record()."""
    with pytest.raises(NotInAtomicBlock):
        ORDERS.load("a").append(*steps(Noted, 1))


def test_nothing_to_append_is_no_error():
    """A decision may come to nothing."""
    order = ORDERS.load("a")
    assert (order.append(), order.version) == ([], 0)


def test_an_event_of_another_context_is_refused():
    """It would go to a stream of the same name over there."""
    with transaction.atomic(), pytest.raises(InvalidEvent, match="Wanted is not an event of"):
        ORDERS.load("a").append(Wanted(order="a", number=1))
    assert StoredEvent.objects.count() == 0


def test_the_terms_of_record_can_be_given():
    """Key, headers and an id of the caller's own, which is recorded once."""
    number = UUID(int=5)
    append(
        ORDERS, "a", Noted(order="a", number=1), key="k", headers={"by": "me"}, message_id=number
    )
    (envelope,) = (each.envelope for each in streams.read("shop", "order-a"))
    assert (envelope.key, envelope.headers, envelope.id) == ("k", {"by": "me"}, number)
    with pytest.raises(DuplicateMessage):
        append(ORDERS, "a", Noted(order="a", number=1), message_id=number)


# A hundred at once


def taking_turns(function):
    """Return a function that waits for one of the connections, and gives it back."""

    def call(*arguments):
        with turns:
            try:
                return function(*arguments)
            finally:
                connections.close_all()

    turns = threading.BoundedSemaphore(AT_ONCE)
    return call


def test_of_a_hundred_decisions_on_one_version_one_is_stored():
    """All have loaded before the first appends: 99 get the error, for each of three versions."""
    all_loaded = threading.Barrier(MANY)
    load = taking_turns(lambda: ORDERS.load("a"))

    @taking_turns
    def decide(order, number):
        try:
            with ORDERS.atomic():
                order.append(Noted(order="a", number=number))
        except ConcurrencyError:
            return None
        return number

    def take_part(number):
        order = load()
        all_loaded.wait(20)
        return order.version, decide(order, number)

    winners = []
    for version in range(3):
        answers = together(*[lambda n=number: take_part(n) for number in range(MANY)])
        assert {each for each, _ in answers} == {version}
        (winner,) = (number for _, number in answers if number is not None)
        winners.append(winner)
    assert ORDERS.load("a").state.numbers == tuple(winners)
    assert OutboxMessage.objects.count() == 3


def test_a_hundred_that_try_again_all_get_in_one_after_the_other():
    """Each on the version that it has seen, and none twice."""
    soon = Backoff(first=timedelta(milliseconds=1), maximum=timedelta(milliseconds=20), jitter=0.9)

    @retry_on_conflict(attempts=1000, backoff=soon)
    def note(who):
        with ORDERS.atomic():
            order = ORDERS.load("a")
            order.append(Noted(order=who, number=order.version + 1))

    turn = taking_turns(note)
    together(*[lambda n=number: turn(str(n)) for number in range(MANY)])
    found = [each.event for each in streams.read("shop", "order-a")]
    assert [each.number for each in found] == [*range(1, MANY + 1)]
    assert len({each.order for each in found}) == MANY


# The example


def overtaken(order_id, by, monkeypatch):
    """Let the next use case decide on what an order was before another one decided."""
    load = ordering._ORDERS.load
    stale = iter([load(order_id)])
    by(order_id)
    monkeypatch.setattr(ordering._ORDERS, "load", lambda key: next(stale, None) or load(key))


def test_a_use_case_that_is_overtaken_decides_again(monkeypatch):
    """On what the order has become: cancelled, so that it is not shipped any more."""
    place_order("1", **ORDER)
    overtaken("1", cancel_order, monkeypatch)
    with pytest.raises(OrderRefused, match="order 1 is cancelled"):
        mark_shipped("1", MAY)


def test_two_who_place_the_same_order_at_once_have_placed_it(monkeypatch):
    """The one who is overtaken finds it placed, with the same content: nothing is wrong."""
    overtaken("1", lambda order_id: place_order(order_id, **ORDER), monkeypatch)
    assert place_order("1", **ORDER) is False
    assert streams.version("ordering", "order-1") == 1
