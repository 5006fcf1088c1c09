"""Catch-up subscriptions: every event once, in order, whatever commits when."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from outbox_inbox.contexts import get_context
from outbox_inbox.models import Checkpoint
from outbox_inbox.queues.statements import catch_up, checkpoints
from outbox_inbox.streams.subscriptions import (
    behind,
    delete_checkpoint,
    follow,
    take_over_checkpoint,
)
from tests.shop.events import Counted, Noted
from tests.support.movers import Worker, put, read_all, read_page, steps

pytestmark = [pytest.mark.catch_up, pytest.mark.usefixtures("committed")]


def read(*arguments, **options):
    """Read one page of a subscription and keep its checkpoint; return stream and version."""
    return read_page(*arguments, **options)[0]


def versions(stream, first, last):
    """Return what `read` returns for versions of a stream."""
    return [(stream, version) for version in range(first, last + 1)]


# Reading


def test_a_subscription_begins_with_the_first_event():
    """What was recorded before it was thought of is read, in the order of the versions."""
    put(*steps(Noted, 3), stream="a")
    put(*steps(Noted, 2), stream="b")
    assert read() == [*versions("a", 1, 3), *versions("b", 1, 2)]


def test_a_subscription_may_begin_now():
    """With ``begin="now"`` only what is recorded afterwards is read."""
    put(*steps(Noted, 3), stream="a")
    with follow(get_context("shop"), "board", begin="now") as cursor:
        assert cursor.read(10) == []
    put(*steps(Noted, 1), stream="b")
    assert read() == versions("b", 1, 1)


def test_what_was_saved_is_not_read_again():
    """The next transaction goes on behind the checkpoint."""
    put(*steps(Noted, 3), stream="a")
    assert read() == versions("a", 1, 3)
    put(*steps(Noted, 1), stream="a")
    assert read() == versions("a", 4, 4)
    assert read() == []


def test_what_was_not_saved_is_read_again():
    """A transaction that ends without `save`, as one that is rolled back, has read nothing."""
    put(*steps(Noted, 3), stream="a")
    with follow(get_context("shop"), "board") as cursor:
        assert len(cursor.read(2)) == 2
    assert read() == versions("a", 1, 3)


def test_pages_follow_each_other():
    """A page ends where its size says, and the next one begins there."""
    put(*steps(Noted, 5), stream="a")
    assert read(size=2) == versions("a", 1, 2)
    put(*steps(Noted, 1), stream="a")
    assert read_all(size=2)[:3] == versions("a", 3, 5)
    assert read_all(size=2) == []


def test_a_long_history_is_walked_through(monkeypatch):
    """Above a number of new events they are met on a walk along the stream: the same result."""
    monkeypatch.setattr(catch_up, "_FEW", 2)
    put(*steps(Noted, 5), stream="a")
    assert read_all(size=2) == versions("a", 1, 5)
    put(*steps(Noted, 5), stream="b")
    assert read_all(size=2) == versions("b", 1, 5)


def test_only_the_events_that_are_asked_for_are_read():
    """The others are passed over, once and for all."""
    put(*steps(Noted, 2), stream="a")
    put(*steps(Counted, 2), stream="b")
    assert read(types={"shop.Counted"}) == versions("b", 1, 2)
    assert read() == []


def test_a_row_is_complete():
    """It has all that the envelope and the relay need, with the time stamp of the record."""
    (envelope,) = put(Noted(order="a", number=1), stream="a", headers={"by": "me"})
    with follow(get_context("shop"), "board") as cursor:
        (row,) = cursor.read(1)
    assert (str(row.message_id).replace("-", ""), row.type) == (envelope.id.hex, "shop.Noted")
    assert (row.key, row.payload, row.headers) == ("a", envelope.data, '{"by":"me"}')
    assert (row.kind, row.hops, row.schema_version) == ("domain", 0, 1)


def test_another_context_is_another_stream():
    """A subscription reads the events of its own context only."""
    put(*steps(Noted, 1), stream="a")
    with follow(get_context("depot"), "board") as cursor:
        assert cursor.read(10) == []


def test_a_subscription_has_a_transaction_of_its_own():
    """Within another one it is refused: what that has recorded is not there yet for others."""
    with (
        pytest.raises(RuntimeError, match="durable"),
        transaction.atomic(),
        follow(get_context("shop"), "board"),
    ):
        pass


# One at a time


@pytest.mark.postgres
def test_a_subscription_has_one_worker_at_a_time():
    """Who comes while another has the lock is told so at once; other subscriptions are free."""
    put(*steps(Noted, 1), stream="a")
    assert read("other") == versions("a", 1, 1)
    with Worker() as other, follow(get_context("shop"), "board") as cursor:
        cursor.save()

        def busy(name):
            with follow(get_context("shop"), name) as found:
                return found is None

        assert not other.do(busy, "other")
    with Worker() as other, follow(get_context("shop"), "board"):
        assert other.do(busy, "board")


# Lag, forgetting, taking over


def test_lag_is_what_is_still_to_be_handled():
    """It counts what the subscription has not saved, and says since when it waits."""

    def lag(*types):
        return behind(get_context("shop"), "board", *types)

    assert lag().events == 0
    put(*steps(Noted, 5), stream="a")
    assert lag().events == 5
    read(size=2)
    assert lag().events == 3
    assert timezone.now() - lag().since < timedelta(minutes=1)
    assert lag({"shop.Counted"}).events == 0
    read_all()
    assert (lag().events, lag().since) == (0, None)


def test_lag_is_counted_up_to_a_limit():
    """What is left of what a subscription works on, and what came after that."""

    def lag(most=None):
        return behind(get_context("shop"), "board", most=most).events

    put(*steps(Noted, 3), stream="a")
    read(size=1)
    put(*steps(Noted, 2), stream="b")
    assert [lag(), lag(5), lag(4), lag(3), lag(1)] == [4, 4, 4, 3, 1]


def test_what_is_forgotten_begins_anew():
    """Without its checkpoint a subscription reads everything again."""
    put(*steps(Noted, 2), stream="a")
    read_all()
    assert delete_checkpoint(get_context("shop"), "board")
    assert not delete_checkpoint(get_context("shop"), "board")
    assert read_all() == versions("a", 1, 2)


def test_a_subscription_takes_the_place_of_another():
    """It goes on where the other one was, which is gone."""
    put(*steps(Noted, 3), stream="a")
    read(size=1)
    read_all("beside")
    put(*steps(Noted, 1), stream="a")
    with transaction.atomic():
        take_over_checkpoint(get_context("shop"), "board", "beside")
    assert read_all() == versions("a", 4, 4)
    assert list(Checkpoint.objects.values_list("subscription", flat=True)) == ["board"]


def test_waiting_is_seen_without_reading():
    """One statement tells of each subscription whether there is something for it."""
    put(*steps(Noted, 2), stream="a")
    read(size=1)
    read_all("quick")

    def ready():
        found = checkpoints.subscription_statuses(connection, ["shop", "depot"])
        return {each.subscription: each.ready for each in found}

    assert ready() == {"board": True, "quick": False}
    read_all()
    assert ready() == {"board": False, "quick": False}
    put(*steps(Noted, 1), stream="a")
    assert ready() == {"board": True, "quick": True}
