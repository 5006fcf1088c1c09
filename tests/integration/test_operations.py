"""What operators do with whole queues: pause, prune, repartition, drain."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from outbox_inbox import OutboxInboxError, operations
from outbox_inbox.contexts import get_context
from outbox_inbox.models import (
    Delivery,
    DeliveryAttempt,
    InboxMessage,
    OutboxMessage,
    Partition,
    Queue,
    StoredEvent,
)
from outbox_inbox.operations import Selection, discard, pause, prune, repartition, resume, retry
from outbox_inbox.testing import drain
from tests.shop.events import Checked, Loose, Noted
from tests.shop.models import Entry
from tests.support.movers import dead, deliver, delivery_states, entries, put, relay, steps

pytestmark = pytest.mark.django_db(databases=["default", "other"])


# Pause and resume


def test_nobody_works_on_a_paused_partition():
    """Messages stay where they are until it is resumed."""
    pause(get_context("shop"), Queue.OUTBOX)
    put(*steps(Noted, 1))
    relay()
    assert OutboxMessage.objects.get().state == "pending"
    resume(get_context("shop"), Queue.OUTBOX)
    drain()
    assert entries() == [1]


def test_pause_counts_what_it_changed():
    """A second pause of the same partitions finds nothing to do."""
    assert pause(get_context("shop"), Queue.INBOX, [0, 1]) == 2
    assert pause(get_context("shop"), Queue.INBOX) == 6
    assert pause(get_context("shop"), Queue.INBOX) == 0


def test_resume_ends_the_rest_after_an_outage():
    """The operator knows that the transport is back."""
    resume(get_context("shop"), Queue.OUTBOX)
    Partition.objects.update(retry_at=timezone.now() + timedelta(hours=1), outages=7, error="out")
    put(*steps(Noted, 1))
    resume(get_context("shop"), Queue.OUTBOX)
    assert relay().done == 1


# Prune


def age(delta=timedelta(days=8)):
    """Make everything older."""
    for model, names in {
        OutboxMessage: ("recorded_at", "finished_at"),
        Delivery: ("finished_at",),
        InboxMessage: ("received_at",),
    }.items():
        for row in model.objects.all():
            for name in names:
                if getattr(row, name) is not None:
                    setattr(row, name, getattr(row, name) - delta)
            row.save()


def pruned(label="shop", **options):
    """Prune, and return how many rows of a context went: outbox, deliveries, inbox."""
    (found,) = [each for each in prune(**options) if each.context == label]
    return found.outbox, found.deliveries, found.inbox


@pytest.mark.parametrize(
    ("passed", "options", "expected"),
    [
        pytest.param(timedelta(0), {}, (0, 0, 0), id="young"),
        pytest.param(timedelta(days=8), {}, (1, 2, 0), id="retention"),
        pytest.param(timedelta(days=31), {}, (1, 2, 1), id="deduplication"),
        pytest.param(
            timedelta(hours=2), {"older_than": timedelta(hours=1)}, (1, 2, 0), id="older-than"
        ),
    ],
)
def test_finished_messages_older_than_the_retention_are_removed(passed, options, expected):
    """The ids of the inbox are remembered longer, whatever --older-than says (rule O8)."""
    deliver(*steps(Noted, 1))
    drain()
    age(passed)
    assert pruned(**options) == expected
    assert InboxMessage.objects.count() == 1 - expected[2]


def test_unfinished_messages_are_never_removed():
    """A dead letter, a follower and a message to be sent stay for ever, and so do their ids."""
    dead(*steps(Noted, 2))
    put(*steps(Noted, [3]))
    Delivery.objects.filter(consumer="shop.handlers.witness").delete()
    age(timedelta(days=400))
    assert pruned() == (2, 0, 0)
    assert delivery_states() == ["dead", "waiting"]
    assert OutboxMessage.objects.filter(state="pending").count() == 1


def test_discarded_messages_are_removed():
    """Discarded is a way of being finished."""
    dead(*steps(Noted, 1))
    discard(Selection(context="shop"), "gone")
    age()
    assert pruned() == (1, 2, 0)
    assert not DeliveryAttempt.objects.exists()


def test_a_message_finished_late_stays_though_it_was_recorded_long_ago():
    """The age counts from when it was finished."""
    deliver(*steps(Noted, 1))
    drain()
    OutboxMessage.objects.update(recorded_at=timezone.now() - timedelta(days=90))
    assert pruned() == (0, 0, 0)


def test_stored_events_are_never_removed():
    """A stream is the state."""
    put(*steps(Noted, 1), stream="a")
    drain()
    age(timedelta(days=4000))
    prune()
    assert StoredEvent.objects.count() == 1


def test_prune_goes_on_chunk_by_chunk(monkeypatch):
    """Unfinished rows between the old ones do not end the walk."""
    monkeypatch.setattr("outbox_inbox.operations.pruning._CHUNK", 2)
    deliver(*steps(Noted, 3))
    drain()
    OutboxMessage.objects.filter(pk=OutboxMessage.objects.order_by("pk")[1].pk).update(state="dead")
    age()
    assert pruned()[:2] == (2, 6)


def test_prune_counts_without_removing_on_a_dry_run():
    """A dry run counts exactly what the real run removes."""
    deliver(*steps(Noted, 2))
    drain()
    age(timedelta(days=31))
    assert pruned(dry_run=True) == (2, 4, 2)
    assert pruned() == (2, 4, 2)


def test_prune_ends_where_rows_are_young(monkeypatch):
    """The young part of a big table is not walked through."""
    monkeypatch.setattr("outbox_inbox.operations.pruning._CHUNK", 1)
    deliver(*steps(Noted, range(20)))
    drain()
    with CaptureQueriesContext(connection) as queries:
        prune([get_context("shop")])
    assert len(queries) < 9


def test_prune_keeps_to_the_contexts_it_was_given():
    """Other contexts may have other habits."""
    put(Checked(order="a", number=1))
    drain()
    age()
    prune([get_context("depot")])
    assert OutboxMessage.objects.filter(context="shop").exists()


# Repartition


def partitions(queue, label="shop"):
    """Return the numbers of a queue's partitions."""
    rows = Partition.objects.filter(context=label, queue=queue).order_by("number")
    return list(rows.values_list("number", flat=True))


def one_each(number):
    """Return an event of each of twenty keys."""
    return [Noted(order=str(order), number=number) for order in range(20)]


def repartitioned(**options):
    """Repartition; return what happened to the shop's outbox."""
    found = {(each.context, each.queue): each for each in repartition(**options)}
    return found["shop", Queue.OUTBOX]


def with_partitions(settings, outbox=1, inbox=8):
    """Change the setting."""
    settings.OUTBOX_INBOX = {"PARTITIONS": {"outbox": outbox, "inbox": inbox}}


def test_a_setting_is_not_in_force_before_a_repartition(settings):
    """With two ideas of where a key belongs its order could be lost."""
    put(*steps(Noted, 1))
    relay()
    with_partitions(settings, outbox=4)
    put(*one_each(2))
    assert set(OutboxMessage.objects.values_list("partition", flat=True)) == {0}
    assert relay().done == 20


@pytest.mark.parametrize("counts", [(4, 3), (2, 16), (1, 1)])
def test_everything_unfinished_arrives_in_order_after_a_repartition(settings, counts):
    """Ready, waiting and dead rows move together, key by key."""
    dead(*[note for order in "abcdefgh" for note in steps(Noted, 2, order)])
    with_partitions(settings, *counts)
    put(*[note for order in "abcdefgh" for note in steps(Noted, [3], order)])
    repartition()
    retry(Selection(context="shop"))
    drain()
    for order in "abcdefgh":
        numbers = Entry.objects.filter(consumer="note", order=order).order_by("pk")
        assert list(numbers.values_list("number", flat=True)) == [1, 2, 3]


def test_partitions_are_made_and_removed(settings):
    """The rows are what the settings say, for both queues."""
    resume(get_context("shop"), Queue.OUTBOX)
    with_partitions(settings, outbox=3, inbox=2)
    repartition()
    assert (partitions("outbox"), partitions("inbox")) == ([0, 1, 2], [0, 1])


def test_each_row_goes_to_the_partition_where_a_new_one_would(settings):
    """A row that was moved and one that was written with the new settings are in one place."""
    deliver(*one_each(1))
    put(*one_each(2))
    with_partitions(settings, outbox=5, inbox=7)
    repartition()
    moved = dict(OutboxMessage.objects.filter(state="pending").values_list("key", "partition"))
    spread = dict(Delivery.objects.values_list("consumer", "partition").filter(key="7"))
    OutboxMessage.objects.all().delete()
    InboxMessage.objects.all().delete()
    put(*one_each(3))
    relay()
    assert dict(OutboxMessage.objects.values_list("key", "partition")) == moved
    assert dict(Delivery.objects.values_list("consumer", "partition").filter(key="7")) == spread


def test_what_a_process_with_old_settings_wrote_is_put_right_by_a_second_call(settings):
    """A stray row is found although the number of partitions fits already."""
    with_partitions(settings, outbox=2)
    repartition()
    put(*steps(Noted, 1))
    OutboxMessage.objects.update(partition=9)
    found = repartitioned()
    assert (found.before, found.after, found.moved) == (2, 2, 1)
    drain()


def test_deliveries_of_a_consumer_that_is_gone_are_moved_too(settings):
    """A renamed handler's deliveries wait for their name to come back."""
    deliver(Loose(order="a", number=1))
    Delivery.objects.update(consumer="shop.handlers.gone")
    with_partitions(settings, inbox=1)
    repartition()
    assert set(Delivery.objects.values_list("partition", flat=True)) == {0}


def test_repartition_counts_without_changing_on_a_dry_run(settings):
    """The rows and the partitions stay as they are."""
    put(*one_each(1))
    resume(get_context("shop"), Queue.OUTBOX)
    with_partitions(settings, outbox=4)
    found = repartitioned(dry_run=True)
    assert found.moved > 0
    assert partitions("outbox") == [0]
    assert set(OutboxMessage.objects.values_list("partition", flat=True)) == {0}


def test_a_queue_that_is_half_paused_is_not_spread(settings):
    """Afterwards it would be unknown which keys are paused."""
    pause(get_context("shop"), Queue.INBOX, [2])
    with_partitions(settings, inbox=3)
    with pytest.raises(OutboxInboxError, match="only partitions 2 are paused"):
        repartition()


def test_a_queue_that_is_paused_stays_paused(settings):
    """New partitions of a paused queue are paused as well."""
    pause(get_context("shop"), Queue.OUTBOX)
    with_partitions(settings, outbox=3)
    repartition()
    rows = Partition.objects.filter(context="shop", queue="outbox")
    assert set(rows.values_list("paused", flat=True)) == {True}


# Drain


def occupy():
    """Leave the shop's outbox to another worker."""
    resume(get_context("shop"), Queue.OUTBOX)
    rows = Partition.objects.filter(context="shop", queue="outbox")
    assert rows.update(run=uuid4(), last_run_at=timezone.now() + timedelta(seconds=1))


def test_a_drain_goes_on_until_all_is_quiet_everywhere():
    """One event travels through both contexts and all their consumers."""
    put(Checked(order="a", number=1))
    found = {each.context: each for each in operations.drain()}
    assert (found["shop"].relayed.done, found["shop"].dispatched.done) == (2, 1)
    assert found["depot"].dispatched.done == 3


def test_a_drain_reports_its_progress():
    """A progress bar gets which mover moved how much, and where."""
    heard = []
    put(*steps(Noted, 2))
    operations.drain(
        progress=lambda context, work, count: heard.append((context.label, work, count))
    )
    assert ("shop", "relay", 2) in heard
    assert sum(count for label, work, count in heard if work == "dispatch") == 4


def test_a_drain_keeps_to_its_limit():
    """No more messages are moved than its limit."""
    put(*steps(Noted, 5))
    (found,) = [each for each in operations.drain(limit=3) if each.context == "shop"]
    assert found.total.done == 3


def test_a_drain_waits_for_partitions_that_others_are_at():
    """As soon as the other worker has gone, the drain goes on there."""
    put(*steps(Noted, 1))
    occupy()
    drained = operations.drain(on_busy=lambda busy: Partition.objects.update(run=None))
    assert sum(each.total.done for each in drained) == 3


def test_a_drain_does_not_wait_for_ever():
    """When nothing has moved for too long, it leaves the partitions to the others."""
    put(*steps(Noted, 1))
    occupy()
    heard = []
    (shop,) = [
        each
        for each in operations.drain(on_busy=heard.append, patience=timedelta(0))
        if each.context == "shop"
    ]
    assert (heard, shop.total.done, shop.relayed.busy) == ([1], 0, 1)


def test_a_drain_that_is_told_to_stop_does_nothing_more():
    """A signal ends it between two batches."""
    put(*steps(Noted, 1))
    operations.drain(stop=lambda: True)
    assert OutboxMessage.objects.get().state == "pending"
