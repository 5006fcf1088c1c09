"""A context whose stream is the source has an outbox as well: neither gets in the other's way."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from outbox_inbox.contexts import get_context
from outbox_inbox.models import InboxMessage, OutboxMessage, Queue, QueueLayout, StoredEvent
from outbox_inbox.operations import queue_stats, repartition
from outbox_inbox.queues import statements
from outbox_inbox.queues.layouts import stored_layout
from tests.depot.events import Wanted
from tests.shop.contracts import Sold
from tests.shop.events import Noted
from tests.support.movers import come_due, put, relay, steps
from tests.support.relaying import Log, not_number
from tests.support.rows import outbox_message
from tests.support.script import playing
from tests.support.wire import WIRE

pytestmark = [pytest.mark.catch_up, pytest.mark.usefixtures("committed")]

STREAM = {"CONTEXTS": {"shop": {"source": "stream"}}}
ON_THE_WIRE = {**WIRE, **STREAM}


@pytest.fixture(autouse=True)
def source(settings: Any) -> None:
    """The shop is its own source."""
    settings.OUTBOX_INBOX = STREAM


@pytest.fixture
def sent(log: Log, settings: Any) -> Log:
    """What the wire has confirmed; the shop is its own source."""
    settings.OUTBOX_INBOX = ON_THE_WIRE
    return log


def leave_the_stream(settings: Any) -> None:
    """Make the outbox the source, as before the database said what is in force: the stream has a rest."""
    settings.OUTBOX_INBOX = WIRE
    QueueLayout.objects.filter(context="shop").update(source="outbox")


def test_what_the_outbox_has_sent_is_not_sent_from_the_stream(sent: Log, settings: Any) -> None:
    """An event that went to the outbox as well is left to it, also after a change of the source."""
    settings.OUTBOX_INBOX = WIRE
    put(*steps(Sold, 2), stream="a")
    relay()
    settings.OUTBOX_INBOX = ON_THE_WIRE
    repartition()
    put(*steps(Sold, [3]), stream="a")
    relay()
    assert sent == [("a", 1), ("a", 2), ("a", 3)]


def test_what_the_outbox_has_is_not_counted_twice(settings: Any) -> None:
    """An event that went to the outbox as well is not pending in the stream."""
    settings.OUTBOX_INBOX = {}
    put(*steps(Noted, 2), stream="a")
    settings.OUTBOX_INBOX = STREAM
    repartition()
    put(*steps(Noted, [3]), stream="a")
    (outbox,) = (each for each in queue_stats([get_context("shop")]) if each.queue == Queue.OUTBOX)
    assert outbox.depth["pending"] == 3


def test_a_domain_event_waits_behind_a_refused_contract_of_its_key(sent: Log) -> None:
    """Order is that of the key, whatever kind of event it is."""
    put(*steps(Sold, [1]), *steps(Noted, [2]), *steps(Noted, [2], "b"))
    with playing(publish=not_number(1)):
        relay()
    assert list(InboxMessage.objects.values_list("key", flat=True)) == ["b"]


def test_a_domain_event_goes_when_the_contract_before_it_has_gone(sent: Log) -> None:
    """Nothing of the key is left behind once the transport takes the contract."""
    put(*steps(Sold, [1]), *steps(Noted, [2]))
    with playing(publish=not_number(1)):
        relay()
    come_due()
    relay()
    assert (sent.all(), InboxMessage.objects.count()) == ([("a", 1)], 1)


@pytest.mark.parametrize("database", ["default", "other"])
def test_an_event_is_not_taken_for_the_outbox_row_of_the_same_number(
    settings: Any, database: str
) -> None:
    """A position and an id may be equal; the subscriber gets the event, wherever it lives."""
    settings.OUTBOX_INBOX = {
        "CONTEXTS": {"shop": {"source": "stream"}, "depot": {"database": database}}
    }
    put(Sold(order="a", number=1), stream="a")
    outbox_message(
        id=StoredEvent.objects.get().position,
        payload='{"number":9,"order":"z"}',
        state="sent",
        finished_at=timezone.now(),
    )
    relay()
    arrived = InboxMessage.objects.using(database).filter(context="depot")
    assert list(arrived.values_list("payload", flat=True)) == ['{"number":1,"order":"a"}']


def test_a_scheduled_message_does_not_block_the_events_of_its_key(sent: Log) -> None:
    """It waits in the outbox for its time, and the stream does not wait for it."""
    put(Sold(order="a", number=1), at=timezone.now() + timedelta(hours=1))
    put(*steps(Sold, [2]), stream="a")
    relay()
    assert (sent.all(), OutboxMessage.objects.count()) == ([("a", 2)], 1)


def test_the_outbox_of_another_context_does_not_block_a_key(sent: Log) -> None:
    """Two contexts of a database may have the same keys; an event is sent from the stream all the same."""
    put(Wanted(order="a", number=1))
    put(*steps(Sold, 1), stream="a")
    relay()
    assert sent == [("a", 1)]
    assert not OutboxMessage.objects.filter(context="shop").exists()


def test_what_is_moved_to_the_front_overtakes_nothing_that_was_recorded_in_the_outbox(
    sent: Log, settings: Any
) -> None:
    """An event of a stream that went to the outbox at once keeps its place there."""
    put(*steps(Sold, 2, "b"), stream="b")
    relay(limit=1)
    leave_the_stream(settings)
    put(*steps(Sold, [1]))
    put(*steps(Sold, [2]), stream="a")
    with playing(publish=not_number(2, key="b")):
        relay()
    assert sent.of("a") == [1, 2]


def test_what_is_moved_to_the_front_is_of_one_context(sent: Log, settings: Any) -> None:
    """The relay holds the lock of its own outbox only, so it leaves the rows of others alone."""
    both = {"depot": {"source": "stream"}, **STREAM["CONTEXTS"]}
    settings.OUTBOX_INBOX = {**WIRE, "CONTEXTS": both}
    put(Wanted(order="a", number=1))
    layout = stored_layout(get_context("depot"))
    statements.spill_events(connection, [StoredEvent.objects.get().position], layout)
    before = OutboxMessage.objects.get().pk
    put(*steps(Sold, 2), stream="a")
    relay(limit=1)
    leave_the_stream(settings)
    with playing(publish=not_number(2)):
        relay()
    assert OutboxMessage.objects.get(context="depot").pk == before
