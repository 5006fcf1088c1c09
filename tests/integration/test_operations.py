"""What operators do: look, retry, discard, pause, prune, repartition, drain."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from outbox_inbox import OutboxInboxError, PermanentError, operations
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import NotAContext, SettingsError
from outbox_inbox.models import (
    Delivery,
    DeliveryAttempt,
    InboxMessage,
    OutboxMessage,
    Partition,
    Queue,
    StoredEvent,
)
from outbox_inbox.operations import (
    Selection,
    dead_letters,
    discard,
    discard_rows,
    pause,
    prune,
    queue_stats,
    repartition,
    resume,
    retry,
    retry_rows,
)
from outbox_inbox.testing import advance, drain
from tests.shop.events import Checked, Counted, Loose, Noted, Skipped
from tests.shop.models import Entry
from tests.support.movers import deliver, dispatch, put, relay
from tests.support.script import playing

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def fail_for_good(event):
    """Fail as if trying again could not help."""
    raise PermanentError("never")


def fail_for_now(event):
    """Fail as if the cause could go away."""
    raise ConnectionError("not now")


def dead(*events, **parts):
    """Bring events into the shop's inbox, with handlers that fail for good."""
    deliver(*events)
    with playing(**(parts or {"note": fail_for_good})):
        dispatch()


def states(consumer="shop.handlers.note"):
    """Return the states of a consumer's deliveries, in order."""
    return list(
        Delivery.objects.filter(consumer=consumer).order_by("pk").values_list("state", flat=True)
    )


def entries(consumer="note"):
    """Return the numbers that a consumer handled, in order."""
    return list(
        Entry.objects.filter(consumer=consumer).order_by("pk").values_list("number", flat=True)
    )


def stats(label="shop", queue=Queue.INBOX):
    """Return the statistics of one queue."""
    (found,) = [each for each in queue_stats() if (each.context, each.queue) == (label, queue)]
    return found


def notes(*numbers, order="a"):
    """Return events of one key."""
    return [Noted(order=order, number=number) for number in numbers]


# Looking


def test_empty_queues_have_a_depth_of_zero_in_every_state():
    """A project that has done nothing yet shows both queues of each context, empty."""
    found = queue_stats()

    labels = ["depot", "ordering", "shipping", "shop"]
    assert [(each.context, each.queue) for each in found] == [
        (label, queue) for label in labels for queue in (Queue.OUTBOX, Queue.INBOX)
    ]
    assert {(each.unfinished, each.oldest, each.parked_keys) for each in found} == {(0, None, 0)}


def test_the_outbox_is_counted_by_state():
    """What is due, what is scheduled and what was sent are told apart."""
    deliver(*notes(1))
    put(*notes(2, 3))
    put(*notes(4), at=timezone.now() + timedelta(hours=1))

    found = stats(queue=Queue.OUTBOX)
    assert found.depth == {"pending": 2, "backing_off": 0, "waiting": 0, "dead": 0}
    assert (found.unfinished, found.scheduled) == (2, 1)


def test_a_scheduled_message_that_has_come_due_is_pending():
    """From then on it should be done, whether or not a worker has seen it."""
    put(*notes(1), at=timezone.now() + timedelta(hours=1))
    advance(timedelta(hours=2))

    found = stats(queue=Queue.OUTBOX)
    assert (found.depth["pending"], found.unfinished, found.scheduled) == (1, 1, 0)


def test_what_was_tried_before_is_not_scheduled():
    """A message that backs off lies in the future as well, and is unfinished."""
    put(*notes(1))
    later = timezone.now() + timedelta(hours=1)
    OutboxMessage.objects.update(attempts=1, due_at=later)

    found = stats(queue=Queue.OUTBOX)
    assert (found.depth["backing_off"], found.unfinished, found.scheduled) == (1, 1, 0)


def test_the_inbox_is_counted_by_state():
    """A dead delivery, one that backs off, one that waits and one that is ready are told apart."""
    dead(*notes(1, 2))
    deliver(Counted(order="a", number=1))
    with playing(count=fail_for_now):
        dispatch()
    deliver(Loose(order="a", number=1))

    assert stats().depth == {"ready": 1, "backing_off": 1, "waiting": 1, "dead": 1}


def test_a_retry_that_has_come_due_counts_as_backing_off():
    """Whoever looks between two attempts sees that something failed."""
    dead(*notes(1), note=fail_for_now)
    advance(timedelta(days=1))

    assert stats().depth["backing_off"] == 1


def test_the_oldest_is_as_old_as_its_recording():
    """The age counts from when the message was recorded, by the database's clock."""
    put(*notes(1, 2))
    first = OutboxMessage.objects.order_by("pk").first()
    OutboxMessage.objects.filter(pk=first.pk).update(
        recorded_at=first.recorded_at - timedelta(hours=2)
    )

    assert 7200 <= stats(queue=Queue.OUTBOX).oldest < 7260


def test_a_scheduled_message_has_no_age_before_it_is_due():
    """A message for tomorrow is not late."""
    put(*notes(1), at=timezone.now() + timedelta(days=1))

    assert stats(queue=Queue.OUTBOX).oldest is None


def test_the_age_of_a_scheduled_message_counts_from_when_it_was_due():
    """A message that was recorded long ago for a minute ago is a minute late."""
    put(*notes(1), at=timezone.now() + timedelta(days=1))
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
    """Without a key nobody waits."""
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
    """A paused intake keeps messages out of the inbox, so it is told there."""
    pause(get_context("depot"), Queue.INTAKE)

    (found,) = stats("depot").partitions

    assert (found.queue, found.state) == (Queue.INTAKE, "paused")


def test_a_message_in_a_partition_that_does_not_exist_is_shown():
    """A process with other settings wrote it; no worker would ever look there."""
    put(*notes(1))
    resume(get_context("shop"), Queue.OUTBOX)
    OutboxMessage.objects.update(partition=7)

    (found,) = stats(queue=Queue.OUTBOX).partitions

    assert (found.number, found.state) == (7, "missing")


def test_statistics_read_no_finished_row():
    """Each part of the statement is served by its partial index, whatever else is in the table."""
    deliver(*notes(*range(200)))
    drain()
    plans = []

    def explain(execute, sql, parameters, many, info):
        if sql.startswith("SELECT context, ") and "UNION ALL" in sql:
            prefix = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
            with connection.cursor() as cursor:
                if connection.vendor == "postgresql":
                    cursor.cursor.execute("SET LOCAL enable_seqscan = off")
                execute(prefix + sql, parameters, many, info | {"cursor": info["cursor"]})
                plans.append("\n".join(str(row) for row in info["cursor"].fetchall()))
        return execute(sql, parameters, many, info)

    with connection.execute_wrapper(explain):
        queue_stats([get_context("shop")])

    assert len(plans) == 2
    for plan, prefix in zip(plans, ("outbox_inbox_out_", "outbox_inbox_del_"), strict=True):
        for suffix in ("state",) if connection.vendor == "mysql" else ("due", "waiting", "dead"):
            assert prefix + suffix in plan


# Retry


def test_a_retried_head_is_handled_first_then_its_followers():
    """After the cause is gone, retry brings the whole key through, in order."""
    dead(*notes(1, 2, 3))

    report = retry(Selection(context="shop", key="a"))
    drain()

    assert (report.outbox, report.inbox) == (0, 1)
    assert entries() == [1, 2, 3]


def test_followers_wait_until_the_retried_head_has_succeeded():
    """Retry changes the head only: its followers do not pass it."""
    dead(*notes(1, 2))

    retry(Selection(context="shop"))

    assert states() == ["ready", "waiting"]


def test_a_retried_delivery_has_all_its_attempts():
    """The count begins anew."""
    dead(*notes(1))

    retry(Selection(context="shop"))

    assert Delivery.objects.get(consumer="shop.handlers.note").attempts == 0


def test_retry_takes_what_backs_off():
    """Nobody has to wait for an hour's back-off once the cause is gone."""
    dead(*notes(1), note=fail_for_now)

    report = retry(Selection(context="shop"))
    drain()

    assert report.total == 1
    assert entries() == [1]


def test_retry_leaves_scheduled_messages_alone():
    """A message for tomorrow has not failed."""
    put(*notes(1), at=timezone.now() + timedelta(days=1))

    assert retry(Selection(context="shop")).total == 0
    assert OutboxMessage.objects.get().due_at is not None


def test_retry_counts_without_changing_on_a_dry_run():
    """A dry run tells how many it would be."""
    dead(*notes(1, 2))

    assert retry(Selection(context="shop"), dry_run=True).total == 1
    assert states() == ["dead", "waiting"]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"type": "shop.Noted"}, 2),
        ({"key": "a"}, 2),
        ({"consumer": "shop.handlers.note"}, 2),
        ({"consumer": "shop.handlers.count", "key": "a"}, 1),
        ({"queue": Queue.OUTBOX}, 0),
        ({"type": "shop.Checked"}, 0),
        ({}, 3),
    ],
)
def test_retry_takes_what_is_selected(selection, expected):
    """Type, key, consumer and queue narrow what is retried."""
    events = [*notes(1, order="a"), *notes(1, order="b"), Counted(order="a", number=1)]
    dead(*events, note=fail_for_good, count=fail_for_good)

    assert retry(Selection(context="shop", **selection)).total == expected


def test_retry_by_id_takes_all_deliveries_of_the_message():
    """Both consumers failed on one message; its id names both deliveries."""
    with playing(note=fail_for_good, witness=lambda event, envelope: fail_for_good(event)):
        (envelope,) = put(*notes(1))
        relay()
        dispatch()

    assert retry(Selection(context="shop", id=envelope.id)).inbox == 2


def test_retry_of_another_context_changes_nothing():
    """The depot's operator does not touch the shop."""
    dead(*notes(1))

    assert retry(Selection(context="depot")).total == 0


def test_retry_of_an_unknown_context_is_refused():
    """A misspelt label is told, with what was probably meant."""
    with pytest.raises(NotAContext, match="did you mean 'shop'"):
        retry(Selection(context="shpo"))


def test_a_dead_outbox_message_is_retried():
    """The relay sends it as if it had never failed, and its follower after it."""
    put(*notes(1, 2))
    first = OutboxMessage.objects.order_by("pk").first()
    OutboxMessage.objects.filter(pk=first.pk).update(state="dead", holds=True, attempts=10)
    relay()
    assert sorted(OutboxMessage.objects.values_list("state", flat=True)) == ["dead", "waiting"]

    assert retry(Selection(context="shop")).outbox == 1
    drain()

    assert entries() == [1, 2]


def test_a_delivery_passed_over_is_handled_late_when_retried():
    """With on_dead="skip" nobody waits for it, and retry still brings it through."""
    dead(Skipped(order="a", number=1), skip=fail_for_good)
    deliver(Skipped(order="a", number=2))
    drain()

    retry(Selection(context="shop"))
    drain()

    assert entries("skip") == [2, 1]


def test_retry_drops_what_a_live_worker_has_read_ahead():
    """A worker that comes back after an operator reads anew: its token is gone."""
    dead(*notes(1))
    token = uuid4()
    Partition.objects.filter(context="shop", queue="inbox").update(run=token)

    retry(Selection(context="shop"))

    number = Delivery.objects.get(consumer="shop.handlers.note").partition
    assert Partition.objects.get(context="shop", queue="inbox", number=number).run is None


# Discard


def test_followers_of_a_discarded_head_go_on():
    """The dead message is given up for good, and its key is free."""
    dead(*notes(1, 2, 3))

    report = discard(Selection(context="shop", key="a"), "ordered by mistake")
    drain()

    assert report.inbox == 1
    assert entries() == [2, 3]


def test_a_discarded_message_keeps_the_reason():
    """Whoever finds it later knows why, and when."""
    dead(*notes(1))

    discard(Selection(context="shop"), "  ordered by mistake ")

    found = Delivery.objects.get(consumer="shop.handlers.note")
    assert (found.state, found.error, found.holds) == ("discarded", "ordered by mistake", False)
    assert found.finished_at is not None


def test_discard_takes_the_dead_only():
    """A healthy backlog is not thrown away by --all."""
    dead(*notes(1, 2))
    deliver(Loose(order="a", number=1))

    assert discard(Selection(context="shop"), "old").total == 1


def test_discard_by_id_takes_a_message_in_any_unfinished_state():
    """Whoever names a message means it, dead or not."""
    (envelope,) = put(*notes(1))

    assert discard(Selection(context="shop", id=envelope.id), "a test order").outbox == 1


def test_discard_never_touches_what_is_finished():
    """A message that was sent and handled stays so."""
    (envelope,) = put(*notes(1))
    drain()

    assert discard(Selection(context="shop", id=envelope.id), "too late").total == 0


def test_unfinished_messages_are_discarded_on_request(monkeypatch):
    """A whole key goes, its waiting followers before the head that holds them."""
    monkeypatch.setattr(dead_letters, "_CHUNK", 1)
    dead(*notes(1, 2, 3))
    released = []
    monkeypatch.setattr(
        dead_letters, "unblock_deliveries", lambda *given: released.append(states())
    )

    report = discard(Selection(context="shop", key="a"), "gone", unfinished=True)

    assert report.inbox == 3
    assert released == [["discarded"] * 3]


def test_discard_needs_a_reason():
    """Blank is none."""
    with pytest.raises(ValueError, match="reason"):
        discard(Selection(context="shop"), "  ")


def test_a_discarded_outbox_head_lets_its_key_go():
    """The relay goes on with the followers."""
    put(*notes(1, 2))
    first = OutboxMessage.objects.order_by("pk").first()
    OutboxMessage.objects.filter(pk=first.pk).update(state="dead", holds=True)
    relay()

    discard(Selection(context="shop", queue=Queue.OUTBOX), "gone")
    drain()

    assert entries() == [2]


# Rows chosen in the admin


def test_rows_of_several_contexts_are_retried_together():
    """A query set of the admin may hold rows of any contexts."""
    dead(*notes(1))
    put(Checked(order="a", number=1))
    with playing(pick=fail_for_good):
        drain(raise_errors=False)

    assert retry_rows(Delivery.objects.all()) == 2
    drain()


def test_rows_are_discarded_in_any_unfinished_state():
    """What is ticked is meant; what is finished is left alone."""
    dead(*notes(1, 2))

    assert discard_rows(Delivery.objects.all(), "ticked") == 2
    assert set(states()) == {"discarded"}


def test_rows_of_another_database_are_refused(settings):
    """Row ids mean something in their own database only."""
    dead(*notes(1))
    settings.OUTBOX_INBOX = {"CONTEXTS": {"shop": {"database": "other"}}}

    with pytest.raises(OutboxInboxError, match="lives on 'other' now"):
        retry_rows(Delivery.objects.all())


# Pause and resume


def test_nobody_works_on_a_paused_partition():
    """Messages stay where they are until it is resumed."""
    pause(get_context("shop"), Queue.OUTBOX)
    put(*notes(1))

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
    put(*notes(1))

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


def test_finished_messages_older_than_the_retention_are_removed():
    """After a week outbox messages and deliveries go; the ids of the inbox are still remembered."""
    deliver(*notes(1))
    drain()
    age()

    assert pruned() == (1, 2, 0)
    assert InboxMessage.objects.count() == 1


def test_ids_are_forgotten_after_the_deduplication_time():
    """After a month nothing can come twice any more, so the memory goes too."""
    deliver(*notes(1))
    drain()
    age(timedelta(days=31))

    assert pruned() == (1, 2, 1)
    assert not InboxMessage.objects.exists()


def test_ids_are_remembered_whatever_age_is_asked_for():
    """--older-than shortens the retention, never the memory of duplicates (rule O8)."""
    deliver(*notes(1))
    drain()
    age(timedelta(hours=2))

    assert pruned(older_than=timedelta(hours=1)) == (1, 2, 0)


def test_young_messages_stay():
    """What was finished a moment ago can still be looked at."""
    deliver(*notes(1))
    drain()

    assert pruned() == (0, 0, 0)


def test_unfinished_messages_are_never_removed():
    """A dead letter, a follower and a message to be sent stay for ever, and so do their ids."""
    dead(*notes(1, 2))
    put(*notes(3))
    Delivery.objects.filter(consumer="shop.handlers.witness").delete()
    age(timedelta(days=400))

    assert pruned() == (2, 0, 0)
    assert states() == ["dead", "waiting"]
    assert OutboxMessage.objects.filter(state="pending").count() == 1


def test_discarded_messages_are_removed():
    """Discarded is a way of being finished."""
    dead(*notes(1))
    discard(Selection(context="shop"), "gone")
    age()

    assert pruned() == (1, 2, 0)
    assert not DeliveryAttempt.objects.exists()


def test_a_message_finished_late_stays_though_it_was_recorded_long_ago():
    """The age counts from when it was finished."""
    deliver(*notes(1))
    drain()
    OutboxMessage.objects.update(recorded_at=timezone.now() - timedelta(days=90))

    assert pruned() == (0, 0, 0)


def test_stored_events_are_never_removed():
    """A stream is the state."""
    put(*notes(1), stream="a")
    drain()
    age(timedelta(days=4000))
    prune()

    assert StoredEvent.objects.count() == 1


def test_prune_goes_on_chunk_by_chunk(monkeypatch):
    """Unfinished rows between the old ones do not end the walk."""
    monkeypatch.setattr("outbox_inbox.operations.pruning._CHUNK", 2)
    deliver(*notes(1, 2, 3))
    drain()
    OutboxMessage.objects.filter(pk=OutboxMessage.objects.order_by("pk")[1].pk).update(state="dead")
    age()

    assert pruned()[:2] == (2, 6)


def test_prune_counts_without_removing_on_a_dry_run():
    """A dry run tells exactly what the real run removes."""
    deliver(*notes(1, 2))
    drain()
    age(timedelta(days=31))

    assert pruned(dry_run=True) == (2, 4, 2)
    assert pruned() == (2, 4, 2)


def test_prune_ends_where_rows_are_young(monkeypatch):
    """The young part of a big table is not walked through."""
    monkeypatch.setattr("outbox_inbox.operations.pruning._CHUNK", 1)
    deliver(*notes(*range(20)))
    drain()

    with CaptureQueries() as queries:
        prune([get_context("shop")])

    assert len(queries) < 8


class CaptureQueries(list):
    """The statements that ran within a block."""

    def __enter__(self):
        self._block = connection.execute_wrapper(self._take)
        self._block.__enter__()
        return self

    def __exit__(self, *error):
        return self._block.__exit__(*error)

    def _take(self, execute, sql, parameters, many, info):
        self.append(sql)
        return execute(sql, parameters, many, info)


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


def with_partitions(settings, outbox=1, inbox=8):
    """Change the setting."""
    settings.OUTBOX_INBOX = {"PARTITIONS": {"outbox": outbox, "inbox": inbox}}


def test_workers_refuse_to_work_until_the_queue_is_spread_anew(settings):
    """With two ideas of where a key belongs its order could be lost."""
    put(*notes(1))
    relay()
    with_partitions(settings, outbox=4)

    with pytest.raises(SettingsError, match="repartition"):
        relay()


@pytest.mark.parametrize("counts", [(4, 3), (2, 16), (1, 1)])
def test_everything_unfinished_arrives_in_order_after_a_repartition(settings, counts):
    """Ready, waiting and dead rows move together, key by key."""
    dead(*[note for order in "abcdefgh" for note in notes(1, 2, order=order)])
    with_partitions(settings, *counts)
    put(*[note for order in "abcdefgh" for note in notes(3, order=order)])

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
    deliver(*[Noted(order=str(number), number=1) for number in range(20)])
    put(*[Noted(order=str(number), number=2) for number in range(20)])
    with_partitions(settings, outbox=5, inbox=7)
    repartition()
    moved = dict(OutboxMessage.objects.filter(state="pending").values_list("key", "partition"))
    spread = dict(Delivery.objects.values_list("consumer", "partition").filter(key="7"))
    OutboxMessage.objects.all().delete()
    InboxMessage.objects.all().delete()

    put(*[Noted(order=str(number), number=3) for number in range(20)])
    relay()

    assert dict(OutboxMessage.objects.values_list("key", "partition")) == moved
    assert dict(Delivery.objects.values_list("consumer", "partition").filter(key="7")) == spread


def test_what_a_process_with_old_settings_wrote_is_put_right_by_a_second_call(settings):
    """A stray row is found although the number of partitions fits already."""
    with_partitions(settings, outbox=2)
    repartition()
    put(*notes(1))
    OutboxMessage.objects.update(partition=9)

    (found,) = [
        each for each in repartition() if (each.context, each.queue) == ("shop", Queue.OUTBOX)
    ]

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
    put(*[Noted(order=str(number), number=1) for number in range(20)])
    resume(get_context("shop"), Queue.OUTBOX)
    with_partitions(settings, outbox=4)

    (found,) = [
        each
        for each in repartition(dry_run=True)
        if (each.context, each.queue) == ("shop", Queue.OUTBOX)
    ]

    assert found.moved > 0
    assert partitions("outbox") == [0]
    assert set(OutboxMessage.objects.values_list("partition", flat=True)) == {0}


def test_a_queue_that_is_half_paused_is_not_spread(settings):
    """Nobody could say which keys are paused afterwards."""
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
    """Have somebody be at work on the shop's outbox."""
    resume(get_context("shop"), Queue.OUTBOX)
    rows = Partition.objects.filter(context="shop", queue="outbox")
    assert rows.update(run=uuid4(), last_run_at=timezone.now() + timedelta(hours=1))


def test_a_drain_goes_on_until_all_is_quiet_everywhere():
    """One event travels through both contexts and all their consumers."""
    put(Checked(order="a", number=1))

    found = {each.context: each for each in operations.drain()}

    assert (found["shop"].relayed.done, found["shop"].dispatched.done) == (2, 1)
    assert found["depot"].dispatched.done == 3


def test_a_drain_reports_its_progress():
    """Whoever shows a bar is told who did what, and how much."""
    told = []
    put(*notes(1, 2))

    operations.drain(
        progress=lambda context, work, count: told.append((context.label, work, count))
    )

    assert ("shop", "relay", 2) in told
    assert sum(count for label, work, count in told if work == "dispatch") == 4


def test_a_drain_keeps_to_its_limit():
    """No more messages are moved than it was told."""
    put(*notes(1, 2, 3, 4, 5))

    (found,) = [each for each in operations.drain(limit=3) if each.context == "shop"]

    assert found.total.done == 3


def test_a_drain_waits_for_partitions_that_others_are_at():
    """As soon as the other worker has gone, the drain goes on there."""
    put(*notes(1))
    occupy()

    drained = operations.drain(on_busy=lambda busy: Partition.objects.update(run=None))

    assert sum(each.total.done for each in drained) == 3


def test_a_drain_does_not_wait_for_ever():
    """When nothing has moved for too long, it leaves the partitions to the others."""
    put(*notes(1))
    occupy()
    told = []

    (shop,) = [
        each
        for each in operations.drain(on_busy=told.append, patience=timedelta(0))
        if each.context == "shop"
    ]

    assert (told, shop.total.done, shop.relayed.busy) == ([1], 0, 1)


def test_a_drain_that_is_told_to_stop_does_nothing_more():
    """A signal ends it between two batches."""
    put(*notes(1))

    operations.drain(stop=lambda: True)

    assert OutboxMessage.objects.get().state == "pending"
