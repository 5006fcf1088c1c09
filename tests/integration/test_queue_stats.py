"""What `queue_stats` counts: every unfinished message once, up to a limit."""

from datetime import timedelta

import pytest
from django.utils import timezone

from outbox_inbox.contexts import get_context
from outbox_inbox.models import OutboxMessage, Partition, Queue
from outbox_inbox.operations import pause, queue_stats, resume
from outbox_inbox.testing import advance
from tests.shop.events import Counted, Loose, Noted
from tests.support.movers import dead, deliver, dispatch, fail_for_good, fail_for_now, put, steps
from tests.support.script import playing

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def stats(label="shop", queue=Queue.INBOX):
    """Return the statistics of one queue."""
    (found,) = [each for each in queue_stats() if (each.context, each.queue) == (label, queue)]
    return found


def test_empty_queues_have_a_depth_of_zero_in_every_state():
    """A project that has done nothing yet shows both queues of each context, empty."""
    found = queue_stats()
    labels = ["depot", "ordering", "shipping", "shop"]
    assert [(each.context, each.queue) for each in found] == [
        (label, queue) for label in labels for queue in (Queue.OUTBOX, Queue.INBOX)
    ]
    assert {(each.unfinished, each.oldest, each.parked_keys) for each in found} == {(0, None, 0)}


def test_the_outbox_is_counted_by_state():
    """What is due, what is scheduled and what was sent are different."""
    deliver(*steps(Noted, 1))
    put(*steps(Noted, [2, 3]))
    put(*steps(Noted, [4]), at=timezone.now() + timedelta(hours=1))
    found = stats(queue=Queue.OUTBOX)
    assert found.depth == {"pending": 2, "backing_off": 0, "waiting": 0, "dead": 0}
    assert (found.unfinished, found.scheduled) == (2, 1)


def test_a_scheduled_message_that_has_come_due_is_pending():
    """From then on it should be done, whether or not a worker has seen it."""
    put(*steps(Noted, 1), at=timezone.now() + timedelta(hours=1))
    advance(timedelta(hours=2))
    found = stats(queue=Queue.OUTBOX)
    assert (found.depth["pending"], found.unfinished, found.scheduled) == (1, 1, 0)


def test_what_was_tried_before_is_not_scheduled():
    """A message that backs off is due in the future as well, and is unfinished."""
    put(*steps(Noted, 1))
    later = timezone.now() + timedelta(hours=1)
    OutboxMessage.objects.update(attempts=1, due_at=later)
    found = stats(queue=Queue.OUTBOX)
    assert (found.depth["backing_off"], found.unfinished, found.scheduled) == (1, 1, 0)


def test_the_inbox_is_counted_by_state():
    """A dead delivery, one that backs off, one that waits and one that is ready."""
    dead(*steps(Noted, 2))
    deliver(Counted(order="a", number=1))
    with playing(count=fail_for_now):
        dispatch()
    deliver(Loose(order="a", number=1))
    assert stats().depth == {"ready": 1, "backing_off": 1, "waiting": 1, "dead": 1}


def test_a_retry_that_has_come_due_counts_as_backing_off():
    """Between two attempts an operator sees that something failed."""
    dead(*steps(Noted, 1), note=fail_for_now)
    advance(timedelta(days=1))
    assert stats().depth["backing_off"] == 1


def test_the_oldest_is_as_old_as_its_recording():
    """The age counts from when the message was recorded, by the database's clock."""
    put(*steps(Noted, 2))
    first = OutboxMessage.objects.order_by("pk").first()
    OutboxMessage.objects.filter(pk=first.pk).update(
        recorded_at=first.recorded_at - timedelta(hours=2)
    )
    assert 7200 <= stats(queue=Queue.OUTBOX).oldest < 7260


def test_a_scheduled_message_has_no_age_before_it_is_due():
    """A message for tomorrow is not late."""
    put(*steps(Noted, 1), at=timezone.now() + timedelta(days=1))
    assert stats(queue=Queue.OUTBOX).oldest is None


def test_the_age_of_a_scheduled_message_counts_from_when_it_was_due():
    """A message that was recorded long ago for a minute ago is a minute late."""
    put(*steps(Noted, 1), at=timezone.now() + timedelta(days=1))
    OutboxMessage.objects.update(recorded_at=timezone.now() - timedelta(days=30))
    advance(timedelta(days=1, minutes=1))
    assert 60 <= stats(queue=Queue.OUTBOX).oldest < 120


def test_parked_keys_are_counted_and_the_first_are_named():
    """Seven dead heads park seven keys; five are named, oldest first, with their consumer."""
    dead(*[Noted(order=f"k{number}", number=1) for number in range(7)])
    found = stats()
    assert found.parked_keys == 7
    assert len(found.parked) == 5
    assert {each.consumer for each in found.parked} == {"shop.handlers.note"}


def test_a_dead_message_without_key_parks_nothing():
    """Without a key no message waits."""
    dead(Loose(order="a", number=1), loose=fail_for_good)
    assert (stats().dead, stats().parked_keys) == (1, 0)


def test_a_paused_partition_is_shown():
    """The operator's switch is seen where the messages pile up."""
    pause(get_context("shop"), Queue.INBOX, [3])
    assert [(each.number, each.state) for each in stats().partitions] == [(3, "paused")]


def test_a_partition_that_backs_off_is_shown_with_its_reason():
    """After an outage one sees why nothing moves, and until when."""
    until = timezone.now() + timedelta(minutes=5)
    queue_stats()
    resume(get_context("shop"), Queue.OUTBOX)
    Partition.objects.filter(context="shop", queue="outbox").update(
        retry_at=until, error="no route"
    )
    (found,) = stats(queue=Queue.OUTBOX).partitions
    assert (found.state, found.reason) == ("backing off", "no route")
    assert abs(found.until - until) < timedelta(milliseconds=1)


def test_the_partition_of_receiving_is_shown_with_the_inbox():
    """A paused intake keeps messages out of the inbox, so it is shown there."""
    pause(get_context("depot"), Queue.INTAKE)
    (found,) = stats("depot").partitions
    assert (found.queue, found.state) == (Queue.INTAKE, "paused")


def test_a_message_in_a_partition_that_does_not_exist_is_shown():
    """A process with other settings wrote it; no worker would ever look there."""
    put(*steps(Noted, 1))
    resume(get_context("shop"), Queue.OUTBOX)
    OutboxMessage.objects.update(partition=7)
    (found,) = stats(queue=Queue.OUTBOX).partitions
    assert (found.number, found.state) == (7, "missing")


def test_a_figure_is_counted_up_to_a_limit():
    """There may be millions: that there are more than the limit is enough to know."""
    dead(*[Noted(order=f"k{number}", number=1) for number in range(3)])
    put(*steps(Noted, [1, 2, 3]))
    put(*steps(Noted, [4, 5]), at=timezone.now() + timedelta(hours=1))
    (outbox, inbox) = queue_stats([get_context("shop")], most=2)
    assert (outbox.depth["pending"], outbox.scheduled, inbox.dead, inbox.parked_keys) == (2,) * 4
    assert outbox.minimums == {"pending"}
    assert inbox.minimums == {"dead", "parked_keys"}
    assert outbox.is_minimum("unfinished")


def test_a_retry_behind_the_longest_back_off_counts_as_backing_off(settings):
    """The setting was lowered since it failed."""
    settings.OUTBOX_INBOX = {"BACKOFF": {"maximum": timedelta(minutes=1)}}
    put(*steps(Noted, [1]))
    OutboxMessage.objects.update(attempts=1, due_at=timezone.now() + timedelta(hours=1))
    found = stats(queue=Queue.OUTBOX)
    assert (found.depth["backing_off"], found.scheduled) == (1, 0)


def test_every_message_in_a_partition_that_does_not_exist_is_counted():
    """In one that was never created, too, and in several of them."""
    put(*steps(Noted, [1, 2]))
    resume(get_context("shop"), Queue.OUTBOX)
    for number, row in enumerate(OutboxMessage.objects.order_by("pk"), start=7):
        OutboxMessage.objects.filter(pk=row.pk).update(partition=number)
    found = stats(queue=Queue.OUTBOX)
    assert found.depth["pending"] == 2
    assert [each.number for each in found.partitions] == [7, 8]
