"""Local streams: versions without gaps, however many append at the same time."""

import pytest
from django.db import connection, transaction

from outbox_inbox import ConcurrencyError, record, streams
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import NotAContext, UnreadableMessage
from outbox_inbox.models import OutboxMessage, StoredEvent
from outbox_inbox.streams import RecordedEvent
from tests.depot.events import Wanted
from tests.shop.events import Grown, Loose, Noted
from tests.support.movers import (
    PATIENCE,
    Worker,
    deliver,
    dispatch,
    entries,
    eventually,
    put,
    steps,
    together,
    waits_for_lock,
)

pytestmark = pytest.mark.usefixtures("committed")


def read(stream="a", **options):
    """Return the numbers of the steps in a stream."""
    return [each.event.number for each in streams.read("shop", stream, **options)]


def versions(stream="a"):
    """Return the versions that a stream has."""
    rows = StoredEvent.objects.filter(stream=stream).order_by("version")
    return list(rows.values_list("version", flat=True))


# Reading


def test_a_stream_is_read_as_it_was_recorded():
    """Events, versions and envelopes come back in order, equal to what record() was given."""
    events = steps(Noted, 3)
    envelopes = put(*events, stream="a", headers={"by": "me"})
    found = list(streams.read("shop", "a"))
    assert all(isinstance(each, RecordedEvent) for each in found)
    assert [each.event for each in found] == events
    assert [each.envelope for each in found] == envelopes
    assert [each.version for each in found] == [1, 2, 3]
    assert [each.position for each in found] == sorted(each.position for each in found)


def test_reading_goes_on_after_a_version():
    """``after`` is the last version that the reader knows."""
    put(*steps(Noted, 5), stream="a")
    assert read(after=3) == [4, 5]
    assert read(after=5) == []


def test_a_stream_that_does_not_exist_is_empty():
    """Nothing has to be created before the first event."""
    assert read("nothing") == []
    assert streams.version("shop", "nothing") == 0


@pytest.mark.parametrize("size", [1, 3, 4, 100])
@pytest.mark.parametrize("after", [0, 5, 9])
def test_a_stream_is_read_page_by_page(monkeypatch, size, after):
    """Each event once, also where a page ends with the stream."""
    monkeypatch.setattr(streams, "_PAGE", size)
    put(*steps(Noted, 9), stream="a")
    expected = [*range(after + 1, 10)]
    assert read(after=after) == expected
    found = streams.events(get_context("shop"), "a", after)
    assert [(event.number, version) for event, version, _ in found] == [(n, n) for n in expected]


@pytest.mark.postgres
def test_a_stream_that_is_being_read_has_no_cursor_open():
    """Behind a pooler of transactions the next page would come from a session without the cursor."""
    put(*steps(Noted, 2), stream="a")
    for reading in (streams.read("shop", "a"), streams.events(get_context("shop"), "a")):
        next(iter(reading))
        with connection.cursor() as cursor:
            cursor.execute("SELECT statement FROM pg_cursors WHERE is_holdable")
            assert cursor.fetchall() == []


def test_a_stream_is_read_on_by_another_session(monkeypatch):
    """As a pooler gives it, or a connection that was made anew."""
    monkeypatch.setattr(streams, "_PAGE", 2)
    put(*steps(Noted, 5), stream="a")
    reading = streams.read("shop", "a")
    first = [next(reading), next(reading)]
    connection.close()
    assert [each.version for each in [*first, *reading]] == [1, 2, 3, 4, 5]


def test_the_version_is_the_number_of_events():
    """Of this stream of this context, which is named by itself or by its label."""
    put(*steps(Noted, 2), stream="a")
    put(*steps(Noted, 1), stream="b")
    assert (streams.version("shop", "a"), streams.version("depot", "a")) == (2, 0)
    assert streams.version(get_context("shop"), "a") == 2


def test_a_stream_of_no_context_is_an_error():
    """A misspelt label is not an empty stream."""
    with pytest.raises(NotAContext, match="shop"):
        streams.version("shap", "a")


def test_an_old_event_is_read_in_its_newest_version():
    """Upcasters stand between what was stored and what is read."""
    put(Grown(order="a", number=7), stream="a")
    StoredEvent.objects.update(schema_version=1, payload='{"count":7,"order":"a"}')
    assert [each.event for each in streams.read("shop", "a")] == [Grown(order="a", number=7)]


def test_an_event_whose_class_is_gone_says_so():
    """Leaving it out would rebuild another state than the one decided on."""
    put(Noted(order="a", number=1), stream="a")
    StoredEvent.objects.update(type="shop.Gone")
    with pytest.raises(UnreadableMessage, match=r"shop\.Gone"):
        list(streams.read("shop", "a"))


def test_a_stream_is_also_an_outbox():
    """What is appended is sent and handled like any other event."""
    deliver(*steps(Noted, 3), stream="a")
    dispatch()
    assert entries() == [1, 2, 3]


def test_a_stream_may_hold_events_of_several_keys():
    """The key orders messages, the stream holds one object's history; they need not be the same."""
    put(Noted(order="a", number=1), Loose(order="x", number=2), stream="s")
    assert read("s") == [1, 2]


# Expected versions


def test_streams_of_two_contexts_may_have_one_name():
    """Each has versions of its own."""
    put(Wanted(order="a", number=1), stream="a")
    put(*steps(Noted, 1), stream="a", expected_version=0)
    assert (streams.version("depot", "a"), streams.version("shop", "a")) == (1, 1)


def test_zero_says_that_the_stream_must_be_new():
    """A second beginning is refused."""
    put(Noted(order="a", number=1), stream="a", expected_version=0)
    with transaction.atomic(), pytest.raises(ConcurrencyError, match="version 1"):
        record(Noted(order="a", number=1), stream="a", expected_version=0)


@pytest.mark.parametrize("expected", [2, None])
def test_an_expected_version_that_is_right_appends(expected):
    """The decision was made on the newest state; None, the default, appends to whatever is there."""
    put(*steps(Noted, 2), stream="a")
    put(*steps(Noted, [3, 4]), stream="a", expected_version=expected)
    assert versions() == [1, 2, 3, 4]


@pytest.mark.parametrize("expected", [0, 1, 3, 100])
def test_a_stale_version_stores_nothing_and_leaves_the_transaction_usable(expected):
    """Neither stream nor outbox have the event, and the caller may record something else."""
    put(*steps(Noted, 2), stream="a")
    with transaction.atomic():
        with pytest.raises(ConcurrencyError):
            record(*steps(Noted, [8, 9]), stream="a", expected_version=expected)
        record(Noted(order="b", number=1))
    assert read() == [1, 2]
    assert [row.key for row in OutboxMessage.objects.order_by("id")] == ["a", "a", "b"]


def test_a_transaction_sees_its_own_events():
    """Several calls in one transaction count on."""
    with transaction.atomic():
        record(*steps(Noted, 2), stream="a", expected_version=0)
        record(*steps(Noted, [3]), stream="a", expected_version=2)
    assert versions() == [1, 2, 3]


# Several at once


@pytest.mark.server
def test_an_appender_waits_for_another_and_comes_after_it():
    """With None the loser of the race for a version takes the next ones, its events together."""
    with Worker() as first, Worker() as second:
        with first.transaction():
            first.do(record, Noted(order="a", number=1), stream="a")
            late = second.start(put, *steps(Noted, [2, 3]), stream="a")
            eventually(waits_for_lock, "the second waits for the first")
        late.result(PATIENCE)
    assert (read(), versions()) == ([1, 2, 3], [1, 2, 3])


@pytest.mark.server
def test_an_appender_takes_the_place_of_one_that_was_rolled_back():
    """A version that was never committed leaves no gap."""
    with Worker() as first, Worker() as second:
        with first.transaction():
            first.do(record, *steps(Noted, [7, 8]), stream="a")
            late = second.start(put, *steps(Noted, [1]), stream="a")
            eventually(waits_for_lock, "the second waits for the first")
            first.do(transaction.set_rollback, True)
        late.result(PATIENCE)
    assert (read(), versions()) == ([1], [1])


@pytest.mark.server
def test_of_two_decisions_on_one_version_the_second_is_refused():
    """It finds out after the commit of the first, and its transaction is usable."""

    @transaction.atomic
    def decide():
        with pytest.raises(ConcurrencyError, match="version 1"):
            record(*steps(Noted, [8, 9]), stream="a", expected_version=0)
        record(Noted(order="b", number=1), stream="b")

    with Worker() as first, Worker() as second:
        with first.transaction():
            first.do(record, Noted(order="a", number=1), stream="a", expected_version=0)
            late = second.start(decide)
            eventually(waits_for_lock, "the second waits for the first")
        late.result(PATIENCE)
    assert (read("a"), read("b")) == ([1], [1])


@pytest.mark.server
def test_ids_in_the_outbox_are_in_the_order_of_the_versions():
    """The one that comes second in the stream also comes second in the outbox."""
    with Worker() as first, Worker() as second:
        with first.transaction():
            first.do(record, Noted(order="a", number=1), stream="a")
            late = second.start(put, Noted(order="a", number=2), stream="a")
            eventually(waits_for_lock, "the second waits for the first")
            first.do(record, Noted(order="a", number=3), stream="a")
        late.result(PATIENCE)
    in_stream = StoredEvent.objects.filter(stream="a").order_by("version")
    in_outbox = OutboxMessage.objects.order_by("id")
    assert read() == [1, 3, 2]
    assert [row.message_id for row in in_outbox] == [row.message_id for row in in_stream]


def test_many_appenders_leave_neither_gap_nor_double():
    """Four threads that append twelve times to one stream make it 48 events longer."""

    def append():
        for number in range(12):
            put(Noted(order="a", number=number), stream="a")

    together(append, append, append, append)
    assert versions() == [*range(1, 49)]
    assert sorted(read()) == sorted([*range(12)] * 4)


def test_of_many_first_events_one_wins():
    """Four threads that open the same stream: one does, three are told."""

    def open_stream():
        try:
            return len(put(Noted(order="a", number=1), stream="a", expected_version=0))
        except ConcurrencyError:
            return 0

    assert sum(together(*[open_stream] * 4)) == 1
    assert (versions(), OutboxMessage.objects.count()) == ([1], 1)
