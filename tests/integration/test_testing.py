"""The helpers for users' tests: drain, recorded, advance."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import time_machine
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.test import TestCase, TransactionTestCase
from django.utils import timezone
from freezegun import freeze_time

from outbox_inbox import PermanentError, record
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import NotAContext, TransportUnavailable
from outbox_inbox.models import Delivery, OutboxMessage, Partition, Queue
from outbox_inbox.operations import draining, pause
from outbox_inbox.testing import DrainFailed, advance, drain, recorded
from outbox_inbox.transports.local import LocalTransport
from tests.board.events import Scored
from tests.board.models import HighScore
from tests.depot.models import Pick
from tests.shop.contracts import Sold
from tests.shop.events import Checked, Noted, Unheard
from tests.shop.models import Entry
from tests.support.movers import put
from tests.support.script import playing

pytestmark = pytest.mark.django_db


def with_board(apps):
    """Return the apps with the context that keeps read models."""
    return ["tests.board.apps.BoardConfig" if "board" in name else name for name in apps]


def fail(error):
    """Return a handler's part that raises."""

    def part(event):
        raise error

    return part


class InATestCase(TestCase):
    """Everything in one transaction that is rolled back."""

    def test_events_get_to_their_consumers(self):
        """An event is relayed, translated, handed over and handled."""
        put(Checked(order="a", number=1))
        drain()
        assert sorted(Pick.objects.values_list("consumer", flat=True)) == ["pick", "watch"]

    def test_events_recorded_are_seen(self):
        """What was recorded is there before and after it was sent."""
        put(Checked(order="a", number=1))
        drain()
        assert recorded() == [Checked(order="a", number=1), Sold(order="a", number=1)]

    @pytest.mark.catch_up
    def test_a_context_without_an_outbox_is_drained(self):
        """The stream is followed within the one transaction, as far as it is."""
        with self.settings(OUTBOX_INBOX={"CONTEXTS": {"shop": {"source": "stream"}}}):
            for number in (1, 2):
                put(Checked(order="a", number=number), stream="a")
                drain()
        assert list(Pick.objects.filter(consumer="pick").values_list("number", flat=True)) == [1, 2]

    @pytest.mark.catch_up
    def test_read_models_are_brought_up_to_date(self):
        """What was recorded in the test is in them after each drain, once."""
        with self.settings(INSTALLED_APPS=with_board(settings.INSTALLED_APPS)):
            for points in (3, 4):
                put(Scored(player="ann", points=points), stream="ann")
                drain()
        assert HighScore.objects.get().points == 7

    def test_a_handler_can_fail(self):
        """The transaction of the test case is as usable as before."""
        put(Noted(order="a", number=1))
        with playing(note=fail(PermanentError("never"))):
            drain(raise_errors=False)
        assert not Entry.objects.exists()


class InATransactionTestCase(TransactionTestCase):
    """Everything committed for real."""

    def test_events_get_to_their_consumers(self):
        """An event is relayed, translated, handed over and handled."""
        put(Checked(order="a", number=1))
        drain()
        assert sorted(Pick.objects.values_list("consumer", flat=True)) == ["pick", "watch"]


class OnSeveralDatabases(TestCase):
    """A context on a database of its own."""

    databases = ("default", "other")

    def test_events_get_from_one_database_to_another(self):
        """Drain and recorded look at each context's own database."""
        with self.settings(OUTBOX_INBOX={"CONTEXTS": {"depot": {"database": "other"}}}):
            put(Checked(order="a", number=1))
            drain()
            assert Delivery.objects.using("other").filter(state="done").count() == 3
            assert recorded(context="depot") == []


# drain


def test_drain_counts_what_was_done():
    """One message was sent, and handled by two consumers."""
    put(Noted(order="a", number=1))
    assert drain().done == 3


def test_drain_raises_what_a_handler_raised():
    """The error names the consumer, the message and the place."""
    (envelope,) = put(Noted(order="a", number=1))
    with playing(note=fail(ValueError("no such order"))), pytest.raises(DrainFailed) as caught:
        drain()
    text = str(caught.value)
    assert f"shop.handlers.note on shop.Noted {envelope.id} (key 'a'), attempt 1" in text
    assert "to be retried: ValueError: no such order" in text
    assert "in note" in text


def test_drain_says_what_is_dead():
    """A permanent error is not tried again."""
    put(Noted(order="a", number=1))
    with playing(note=fail(PermanentError("never"))), pytest.raises(DrainFailed, match="dead"):
        drain()


def test_drain_tells_no_failure_twice():
    """What failed in an earlier drain is not raised again, and not tried again."""
    put(Noted(order="a", number=1))
    with playing(note=fail(ValueError("once"))):
        drain(raise_errors=False)
    put(Noted(order="b", number=1))
    drain()
    assert list(Entry.objects.values_list("order", flat=True)) == ["b"]


def test_drain_raises_when_a_transport_is_out_of_reach(monkeypatch):
    """A message that cannot leave is not quiet."""

    def publish(self, source, messages):
        raise TransportUnavailable("no route")

    monkeypatch.setattr(LocalTransport, "publish", publish)
    put(Checked(order="a", number=1))
    with pytest.raises(DrainFailed, match="backing off: TransportUnavailable: no route"):
        drain()


def test_drain_raises_when_something_is_left_behind_a_pause():
    """A test that paused a partition asks for it with raise_errors=False."""
    put(Noted(order="a", number=1))
    pause(get_context("shop"), Queue.OUTBOX)
    with pytest.raises(DrainFailed, match="shop outbox: 1 left: partition 0 is paused"):
        drain()


def test_drain_leaves_what_is_scheduled():
    """A message for tomorrow does not make it raise."""
    put(Noted(order="a", number=1), at=timezone.now() + timedelta(days=1))
    assert drain().done == 0


# recorded


def test_recorded_returns_the_events_of_a_class():
    """In the order in which they were recorded."""
    put(Noted(order="a", number=1), Unheard(order="a", number=1), Noted(order="b", number=2))
    assert recorded(Noted) == [Noted(order="a", number=1), Noted(order="b", number=2)]


def test_recorded_returns_events_that_nobody_consumes():
    """Also one that has no consumer is an event."""
    put(Unheard(order="a", number=1))
    assert recorded() == [Unheard(order="a", number=1)]


def test_recorded_returns_the_events_of_a_context():
    """Other contexts are left out."""
    put(Noted(order="a", number=1))
    assert recorded(context="depot") == []


def test_recorded_refuses_an_unknown_context():
    """The error suggests the right label."""
    with pytest.raises(NotAContext, match="did you mean"):
        recorded(context="shpo")


def test_recorded_does_not_return_what_was_rolled_back():
    """A use case that failed recorded nothing."""
    with transaction.atomic():
        record(Noted(order="a", number=1))
        transaction.set_rollback(True)
    assert recorded() == []


# advance


def test_a_back_off_comes_due_when_time_goes_on():
    """The second attempt is made after an hour, and succeeds."""
    put(Noted(order="a", number=1))
    with playing(note=fail(ValueError("once"))):
        drain(raise_errors=False)
    advance(timedelta(hours=1))
    drain()
    assert Entry.objects.count() == 1


def test_a_scheduled_message_comes_due_when_time_goes_on():
    """A message for tomorrow is sent tomorrow, and not a second before."""
    put(Noted(order="a", number=1), at=timezone.now() + timedelta(days=1))
    advance(timedelta(hours=23))
    assert drain().done == 0
    advance(timedelta(hours=1))
    assert drain().done == 3


def test_an_outage_is_over_when_time_goes_on():
    """The partition is tried again."""
    put(Noted(order="a", number=1))
    drain()
    put(Noted(order="a", number=2))
    Partition.objects.update(retry_at=timezone.now() + timedelta(minutes=5))
    advance(timedelta(minutes=5))
    assert drain().done == 3


def test_what_is_due_at_once_stays_so():
    """A message without a time is not touched."""
    put(Noted(order="a", number=1))
    advance(timedelta(days=1))
    assert OutboxMessage.objects.get().due_at is None


@pytest.mark.parametrize("delta", [timedelta.max, timedelta.min])
def test_time_does_not_go_on_beyond_the_calendar(delta):
    """The error names the argument."""
    with pytest.raises(ValueError, match=r"delta=.*at most 36500 days"):
        advance(delta)


@pytest.mark.parametrize("until", [datetime(2030, 1, 1), datetime.max.replace(tzinfo=UTC)])  # noqa: DTZ001
def test_a_drain_is_until_a_time_of_the_calendar(until):
    """The same range as for what is scheduled."""
    with pytest.raises(ValueError, match=r"until=.*; expected a"):
        drain(until=until)


# A stopped clock


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "stopped",
    [lambda: freeze_time("2026-01-01"), lambda: time_machine.travel("2026-01-01", tick=False)],
    ids=["freezegun", "time-machine"],
)
def test_drain_ends_where_a_partition_is_in_use_although_the_clock_is_stopped(stopped, monkeypatch):
    """It waits for the other worker by a clock that goes on, and then says what is left."""

    def show_life(_pause):
        """Be the other worker, as its database sees it."""
        Partition.objects.filter(queue=Queue.OUTBOX).update(run=uuid4(), last_run_at=Now())

    monkeypatch.setattr(draining.time, "sleep", show_life)
    monkeypatch.setattr("outbox_inbox.testing.draining._PATIENCE", timedelta(milliseconds=50))
    put(Noted(order="a", number=1))
    show_life(0)
    with stopped(), pytest.raises(DrainFailed, match="shop outbox: 1 left"):
        drain()


def test_events_get_to_their_consumers_on_a_day_that_a_test_has_chosen():
    """Times that are stored and read follow the clock of the test."""
    with freeze_time("2026-03-01 12:00"):
        put(Checked(order="a", number=1))
        drain()
        assert OutboxMessage.objects.filter(state="sent").count() == 2
        assert sorted(Pick.objects.values_list("consumer", flat=True)) == ["pick", "watch"]
