"""The partition lock: one worker at a time, and a crash is noticed."""

import threading
from contextlib import ExitStack, suppress
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from outbox_inbox.contexts import contexts, get_context
from outbox_inbox.models import Delivery, OutboxMessage, Partition, Queue
from outbox_inbox.queues import statements
from outbox_inbox.queues.partitions import ensure_partitions, operator_lock, partition_statuses
from outbox_inbox.queues.run import Lost, partition_run
from tests.shop.contracts import Sold
from tests.shop.events import Noted
from tests.support.movers import (
    PATIENCE,
    Worker,
    crash,
    crashing,
    deliver,
    dispatch,
    entries,
    eventually,
    fall_silent,
    leave_token,
    put,
    relay,
    steps,
    striking,
    together,
    waits_for_lock,
)
from tests.support.relaying import partition
from tests.support.script import playing
from tests.support.wire import WIRE, take_all

pytestmark = pytest.mark.usefixtures("committed")

SHORT = {"PUBLISH_TIMEOUT": timedelta(milliseconds=50), "FROZEN_AFTER": timedelta(milliseconds=150)}


def work():
    """Return the same partition as a mover sees it."""
    (found,) = partition_statuses(get_context("shop"), Queue.OUTBOX)
    return found


def staying():
    """Stay on the shop's outbox."""
    return partition_run(get_context("shop"), work())


def inboxes():
    """Return the tokens in the shop's inbox."""
    rows = Partition.objects.filter(context="shop", queue=Queue.INBOX)
    return set(rows.values_list("run", flat=True))


# A run, from its token's writing to its taking away


def test_a_run_writes_its_token_and_takes_it_away():
    """While it lasts the row says who is there, and since when."""
    with staying() as run:
        assert partition().run == run.token
        assert timezone.now() - partition().last_run_at < timedelta(minutes=1)
    assert partition().run is None


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_after_an_error_or_ctrl_c_a_run_ends_cleanly(error):
    """Its token is gone."""
    with pytest.raises(error), staying():
        raise error
    assert partition().run is None


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit])
def test_what_ends_the_worker_leaves_the_token(error):
    """As a crash does: a message may be why."""
    with pytest.raises(error), staying():
        raise error
    assert partition().run is not None


def test_a_run_after_a_clean_end_is_an_ordinary_one():
    """There is nothing to be careful about."""
    with staying():
        pass
    with staying() as run:
        assert run.careful == 0


def test_a_run_after_a_crash_is_careful(settings):
    """For as many messages as the crashed one may have had in its hands."""
    settings.OUTBOX_INBOX = {"BATCH_SIZE": 7}
    with crashing(), staying():
        crash()
    with staying() as run:
        assert run.careful == 7


def test_a_run_that_shows_life_is_left_alone():
    """A worker between two transactions has not crashed, though its partition is free."""
    with staying() as run, Worker() as other:
        put(*steps(Noted, 1))
        outcome = other.do(relay)
        assert (outcome.done, outcome.busy) == (0, 1)
        with run.locked():
            assert OutboxMessage.objects.get().attempts == 0


def test_a_look_at_a_run_that_shows_life_opens_no_transaction():
    """Looks of other workers cost the worker nothing."""
    put(*steps(Noted, 1))
    with staying():
        with CaptureQueriesContext(connection) as queries:
            assert relay().busy == 1
        assert len(queries) == 1


def test_a_run_that_was_begun_between_look_and_lock_is_left_alone():
    """What a mover saw a moment ago is looked at again under the lock."""
    seen = work()
    with staying(), partition_run(get_context("shop"), seen) as second:
        assert second is None


def test_workers_that_meet_in_the_gap_between_two_transactions_cost_no_attempts():
    """Nothing is counted that was not tried, and nothing is handled twice."""
    deliver(*steps(Noted, 5))
    with Worker() as other, striking("dispatch.after_commit", lambda: other.do(dispatch)):
        dispatch()
    assert entries() == [1, 2, 3, 4, 5]
    assert set(Delivery.objects.values_list("state", "attempts")) == {("done", 0)}


def test_a_run_of_which_nobody_heard_for_a_while_is_taken_over():
    """It has crashed; and if it only slept, it finds out before it does anything."""
    with staying() as sleeper:
        fall_silent()
        with Worker() as other:
            put(*steps(Noted, 1))
            assert other.do(relay).done == 1
        with pytest.raises(Lost), sleeper.locked():
            pass
    assert partition().run is None


def test_a_run_that_was_taken_over_leaves_the_token_of_the_next_one():
    """Without it the next worker would give up, and its crash would go unnoticed."""
    with ExitStack() as later:
        with staying():
            fall_silent()
            following = later.enter_context(staying())
        assert partition().run == following.token


def test_a_long_run_shows_life_now_and_then(monkeypatch):
    """In a transaction that it has anyway, so that no other worker takes it for crashed."""
    times = iter(range(0, 10_000, 10))
    monkeypatch.setattr("outbox_inbox.queues.run.monotonic", lambda: next(times))
    with staying() as run:
        fall_silent()
        with run.locked():
            pass
        assert timezone.now() - partition().last_run_at < timedelta(minutes=1)


def test_a_quick_run_writes_nothing_but_its_token():
    """Life need not be shown in each transaction."""
    with staying() as run:
        fall_silent()
        for _ in range(3):
            with run.locked():
                pass
        assert partition().last_run_at is None


def test_the_dispatcher_shows_life_as_well(monkeypatch):
    """Also when all it does is to claim one message after the other."""
    times = iter(range(0, 10_000, 10))
    monkeypatch.setattr("outbox_inbox.queues.run.monotonic", lambda: next(times))
    seen = []
    deliver(*steps(Noted, 3))

    def look_at_it():
        seen.append(Partition.objects.get(run__isnull=False).last_run_at)
        fall_silent()

    with (
        striking("dispatch.after_commit", look_at_it),
        striking("dispatch.after_commit", look_at_it, 2),
    ):
        dispatch()
    assert all(seen)


# Exclusive


def test_only_one_of_many_gets_a_partition():
    """At any moment one worker is inside, however many come."""
    inside, most, lock = [], [], threading.Lock()

    def come():
        for _ in range(20):
            with staying() as run:
                if run is not None:
                    with lock:
                        inside.append(run)
                        most.append(len(inside))
                    # A server may lock the row for a moment for a worker that only looks: a visit for
                    # nothing.
                    with suppress(Lost), run.locked():
                        pass
                    with lock:
                        inside.remove(run)

    work()
    together(come, come, come, come)
    assert set(most) == {1}


@pytest.mark.server
def test_who_finds_a_partition_locked_does_not_wait():
    """The lock is taken with SKIP LOCKED, also by who has the token."""
    with staying() as run, Worker() as other, other.transaction():
        other.do(lambda: statements.lock_partition(connection, run.id, 1_000))
        with pytest.raises(Lost), run.locked():
            pass


def test_a_paused_partition_is_given_to_nobody():
    """Not even to who is at work on it."""
    with staying() as run:
        Partition.objects.update(paused=True)
        with pytest.raises(Lost), run.locked():
            pass
    with partition_run(get_context("shop"), work()) as run:
        assert run is None


@pytest.mark.parametrize(
    ("model", "change"),
    [(Partition, {"paused": True}), (Delivery, {"due_at": timezone.now() + timedelta(days=1)})],
    ids=["paused", "backing off"],
)
def test_a_delivery_that_was_read_ahead_is_not_claimed_any_more(model, change):
    """The claim asks again for what the look has found."""
    deliver(*steps(Noted, 1))
    row = next(each for each in partition_statuses(get_context("shop"), Queue.INBOX) if each.ready)
    claimed = Delivery.objects.filter(partition=row.number).first()
    with partition_run(get_context("shop"), row) as run:
        model.objects.update(**change)
        with pytest.raises(Lost), transaction.atomic():
            run.claim(claimed.pk)


@pytest.mark.server
def test_a_frozen_relay_is_thrown_out_by_the_server(settings):
    """Its session is ended after FROZEN_AFTER, and another worker goes on."""
    settings.OUTBOX_INBOX = {**WIRE, **SHORT}
    put(*steps(Sold, 2))
    thaw, calls = threading.Event(), []

    def publish(messages):
        calls.append(1)
        if len(calls) == 1:
            thaw.wait(PATIENCE)
        return take_all(messages)

    def go_on():
        fall_silent()
        return relay().done

    with Worker() as frozen, playing(publish=publish):
        ended = frozen.start(relay)
        eventually(lambda: calls, "the relay is frozen")
        assert eventually(go_on, "the server throws it out") == 2
        thaw.set()
        with pytest.raises(DatabaseError):
            ended.result(PATIENCE)
    assert OutboxMessage.objects.filter(state="sent").count() == 2


@pytest.mark.postgres
@pytest.mark.parametrize("way", ["lock", "claim"])
def test_the_guard_against_freezing_ends_with_the_transaction(settings, way):
    """The connection belongs to the project; only our transactions are watched."""
    before = guard()
    settings.OUTBOX_INBOX = {"FROZEN_AFTER": timedelta(seconds=77)}
    deliver(*steps(Noted, 1))
    row = next(each for each in partition_statuses(get_context("shop"), Queue.INBOX) if each.ready)
    delivery = Delivery.objects.filter(partition=row.number).first()
    with partition_run(get_context("shop"), row) as run:
        with transaction.atomic():
            run.lock() if way == "lock" else run.claim(delivery.pk)
            assert guard() == "77s"
        assert guard() == before


def guard():
    """Return the time after which the server ends an idle session."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        return cursor.fetchone()[0]


# The operator's lock


@pytest.mark.server
def test_an_operator_waits_for_the_transaction_of_a_worker():
    """States are changed when no worker has them in hand."""
    with staying() as run, Worker() as operator:

        def operate():
            with operator_lock(get_context("shop"), Queue.OUTBOX):
                return run.token

        with run.locked():
            done = operator.start(operate)
            eventually(waits_for_lock, "the operator waits")
            assert not done.done()
        assert done.result(PATIENCE) == run.token


def test_a_worker_drops_what_it_has_read_ahead_after_an_operator():
    """It cannot know what was changed."""
    with staying() as run:
        with operator_lock(get_context("shop"), Queue.OUTBOX):
            pass
        with pytest.raises(Lost), run.locked():
            pass


def test_an_operator_may_name_the_partitions():
    """Workers of the others do not notice."""
    partition_statuses(get_context("shop"), Queue.INBOX)
    leave_token(Queue.INBOX)
    with operator_lock(get_context("shop"), Queue.INBOX, [2, 3]):
        pass
    rows = Partition.objects.filter(context="shop", queue=Queue.INBOX, run__isnull=True)
    assert set(rows.values_list("number", flat=True)) == {2, 3}


def test_an_operator_who_fails_changes_nothing():
    """The block is one transaction."""
    leave_token(Queue.OUTBOX)
    token = partition().run
    with pytest.raises(ZeroDivisionError), operator_lock(get_context("shop"), Queue.OUTBOX):
        raise ZeroDivisionError
    assert partition().run == token


# The rows


def test_partitions_are_made_when_they_are_first_needed():
    """A context that was added since the last migrate works at once."""
    Partition.objects.all().delete()
    assert len(partition_statuses(get_context("shop"), Queue.INBOX)) == 8
    assert Partition.objects.filter(context="depot", queue=Queue.OUTBOX).count() == 1


def test_partitions_are_made_on_the_database_of_their_context(settings):
    """And nowhere else."""
    settings.OUTBOX_INBOX = {"CONTEXTS": {"shop": {"database": "other"}}}
    ensure_partitions("other")
    labels = set(Partition.objects.using("other").values_list("context", flat=True))
    assert labels == {"shop"}


def test_making_partitions_again_changes_nothing():
    """It runs after each migrate."""
    ensure_partitions("default")
    leave_token(Queue.OUTBOX)
    before = list(Partition.objects.order_by("id").values())
    ensure_partitions("default")
    assert list(Partition.objects.order_by("id").values()) == before
    assert len(before) == len(contexts()) * (1 + 8 + 1)


def test_partitions_can_be_made_by_several_at_once():
    """Two processes that start together do not trip over each other."""
    Partition.objects.all().delete()
    together(*[lambda: ensure_partitions("default")] * 3)
    assert Partition.objects.count() == len(contexts()) * (1 + 8 + 1)


@pytest.mark.mariadb
@pytest.mark.mysql
def test_partitions_are_made_after_a_deadlock():
    """The loser of the deadlock that this may be makes what is missing then."""
    Partition.objects.all().delete()
    failures = [OperationalError(1213, "Deadlock found when trying to get lock")]

    def fail_once(execute, sql, params, many, context):
        if failures and sql.startswith("INSERT"):
            raise failures.pop()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail_once):
        ensure_partitions("default")
    assert (failures, Partition.objects.count()) == ([], len(contexts()) * (1 + 8 + 1))


@pytest.mark.parametrize("queue", [Queue.OUTBOX, Queue.INBOX])
@pytest.mark.parametrize("number", [2, 5, 16])
def test_other_numbers_than_are_in_force_are_told_and_not_used(settings, caplog, queue, number):
    """Until a repartition, a process goes on with the partitions that there are."""
    found = partition_statuses(get_context("shop"), queue)
    settings.OUTBOX_INBOX = {"PARTITIONS": {queue.value: number}}
    for _ in range(2):
        assert partition_statuses(get_context("shop"), queue) == found
    told = [each.getMessage() for each in caplog.records]
    assert told == [
        f'shop: PARTITIONS["{queue}"] {len(found)} is in force, and not {number} as in the settings: '
        "run manage.py repartition to change it"
    ]


def test_the_receiver_has_one_partition_whatever_the_settings_say(settings):
    """There is one stream to receive from."""
    settings.OUTBOX_INBOX = {"PARTITIONS": {"inbox": 2, "outbox": 2}}
    assert len(partition_statuses(get_context("depot"), Queue.INTAKE)) == 1


def test_who_is_at_work_comes_last():
    """A second worker begins at a partition without a worker."""
    deliver(*(Noted(order=f"o{n}", number=1) for n in range(40)))
    Partition.objects.filter(context="shop", queue=Queue.INBOX, number=0).update(run=uuid4())
    found = partition_statuses(get_context("shop"), Queue.INBOX)
    assert [each.number for each in found] == [1, 2, 3, 4, 5, 6, 7, 0]
    assert inboxes() >= {None}


def test_a_look_says_where_there_is_work():
    """A partition without any is not even visited."""
    deliver(Noted(order="a", number=1))
    busy = set(Delivery.objects.values_list("partition", flat=True))
    found = partition_statuses(get_context("shop"), Queue.INBOX)
    assert {each.number for each in found if each.ready} == busy


@pytest.mark.parametrize("move", [relay, dispatch])
def test_partitions_that_were_seen_are_gone_over_without_a_look(move, monkeypatch):
    """Who has looked, and will look again, need not have it done before and after each run."""
    deliver(*steps(Noted, 2))
    put(*steps(Noted, [3]))
    queue = Queue.OUTBOX if move is relay else Queue.INBOX
    seen = partition_statuses(get_context("shop"), queue)
    monkeypatch.setattr("outbox_inbox.queues.sweep.partition_statuses", None)
    assert move(seen=seen).done
    assert not move(seen=[each._replace(ready=False) for each in seen]).done


def test_partitions_that_were_seen_may_be_anothers_by_now():
    """What a look has found is a hint; the lock decides."""
    put(*steps(Noted, 1))
    seen = partition_statuses(get_context("shop"), Queue.OUTBOX)
    with staying():
        assert relay(seen=seen).busy == 1


def test_a_look_at_everything_says_the_same_as_one_at_each_queue():
    """The long-running process sees what the movers see."""
    deliver(*steps(Noted, 2))
    put(*steps(Noted, [3]), at=timezone.now() - timedelta(hours=1))
    leave_token(Queue.INBOX, number=2)
    relay("depot")
    everything = statements.all_partition_statuses(connection, ["shop", "depot"])
    for label in ("shop", "depot"):
        for queue in Queue:
            found = [
                work for context, name, work in everything if (context, name) == (label, queue)
            ]
            assert found == partition_statuses(get_context(label), queue)
