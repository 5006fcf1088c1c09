"""What is in force for the queues of a context, while processes with old and with new settings run."""

import random
from collections import Counter
from contextlib import suppress
from datetime import timedelta

import pytest
from django.core.checks import Tags, run_checks
from django.db import OperationalError, connection, transaction

from outbox_inbox import record
from outbox_inbox.contexts import get_context
from outbox_inbox.models import Delivery, OutboxMessage, QueueLayout, StoredEvent
from outbox_inbox.operations import (
    Selection,
    rename_consumers,
    repartition,
    repartitioning,
    retry,
    table_locks,
)
from outbox_inbox.queues.layouts import stored_layout
from outbox_inbox.queues.statements import Layout
from tests.shop.contracts import Sold
from tests.shop.events import Checked, Counted, Noted
from tests.shop.models import Entry
from tests.support.movers import (
    PATIENCE,
    Worker,
    come_due,
    deliver,
    dispatch,
    entries,
    eventually,
    failing,
    picks,
    put,
    receive,
    relay,
    run_all,
    states,
    steps,
    striking,
    waits_for_lock,
)
from tests.support.script import playing
from tests.support.settings_apart import SettingsApart

pytestmark = pytest.mark.usefixtures("committed")

STREAM = {"CONTEXTS": {"shop": {"source": "stream"}}}
SOURCES = [({}, STREAM), (STREAM, {})]
NUMBERS = [
    ({"PARTITIONS": {"inbox": 8}}, {"PARTITIONS": {"outbox": 3, "inbox": 3}}),
    ({"PARTITIONS": {"outbox": 4}}, {"PARTITIONS": {"outbox": 2, "inbox": 2}}),
]
WITHOUT_STREAMS = [pytest.param(*each, id=f"numbers{n}") for n, each in enumerate(NUMBERS)]
BOTH = [
    *(
        pytest.param(*each, id=f"source{n}", marks=pytest.mark.catch_up)
        for n, each in enumerate(SOURCES)
    ),
    *WITHOUT_STREAMS,
]
ORDERS = [f"o{number}" for number in range(12)]


def of_each(event, number):
    """Return an event of each order."""
    return [event(order=order, number=number) for order in ORDERS]


# Before a change


@pytest.mark.parametrize(("before", "after"), BOTH)
def test_a_setting_alone_changes_nothing(before, after):
    """What an old and a new process record in turn is sent and handled in order by either of them."""
    old, new = SettingsApart(**before), SettingsApart(**after)
    old.do(relay)
    for number in (1, 3):
        new.do(put, *of_each(Noted, number), stream="a")
        old.do(put, *of_each(Noted, number + 1), stream="a")
        for process in (old, new):
            process.do(relay, limit=7)
            process.do(dispatch, limit=5)
    new.do(put, *of_each(Noted, 5))
    old.do(put, *of_each(Noted, 6))
    new.do(run_all)
    assert all(entries(order=order) == [*range(1, 7)] for order in ORDERS)
    assert old.do(stored_layout, get_context("shop")) == new.do(stored_layout, get_context("shop"))


@pytest.mark.parametrize(("before", "after"), WITHOUT_STREAMS)
def test_a_key_that_fails_for_two_processes_does_not_stand_still(before, after):
    """Its deliveries are in one partition, so only the first of them blocks it."""
    old, new = SettingsApart(**before), SettingsApart(**after)
    old.do(relay)
    for process, number in ((old, 1), (new, 2)):
        process.do(put, *of_each(Noted, number))
        process.do(relay)
    with playing(note=lambda event, *_: failing(event.number, order=event.order)(event)):
        for process in (old, new):
            process.do(dispatch)
    for process in (new, old):
        process.do(repartition)
        process.do(retry, Selection(context="shop"))
        process.do(run_all)
    assert all(entries(order=order) == [1, 2] for order in ORDERS)


def test_a_consumer_is_renamed_within_the_partitions_in_force():
    """Also by a process whose settings name another number."""
    old, new = SettingsApart(), SettingsApart(PARTITIONS={"inbox": 3})
    old.do(deliver, *of_each(Counted, 1))
    rows = Delivery.objects.filter(consumer__endswith=".count")
    wanted = dict(rows.values_list("key", "partition"))
    name = rows.values_list("consumer", flat=True)[0]
    rows.update(consumer="shop.handlers.before", partition=7)
    new.do(rename_consumers, get_context("shop"), ["shop.handlers.before"], name)
    assert dict(rows.values_list("key", "partition")) == wanted


def test_without_a_layout_the_partitions_that_there_are_count():
    """As after an update from a version that stored none."""
    old, new = SettingsApart(), SettingsApart(PARTITIONS={"inbox": 3})
    old.do(relay)
    QueueLayout.objects.all().delete()
    new.do(relay)
    assert new.do(stored_layout, get_context("shop")) == Layout("shop", "outbox", 1, 8)


@pytest.mark.parametrize("wanted", [{"PARTITIONS": {"inbox": 3}}, {}], ids=["new", "same"])
def test_a_check_reports_settings_that_are_not_in_force(wanted):
    """W013, where the database is checked: an operator runs `repartition`."""
    SettingsApart().do(relay)
    found = SettingsApart(**wanted).do(run_checks, tags=[Tags.database], databases=["default"])
    said = [each.hint for each in found if (each.id, each.obj) == ("outbox_inbox.W013", "shop")]
    assert ["repartition --context shop" in hint for hint in said] == [True] * bool(wanted)


def test_a_layout_that_was_rolled_back_is_stored_by_the_next_event(monkeypatch):
    """Whatever the same transaction has recorded after it: its own row is not committed yet."""
    monkeypatch.setattr("outbox_inbox.queues.layouts._stored", set())
    QueueLayout.objects.all().delete()
    with suppress(ZeroDivisionError), transaction.atomic():
        put(Noted(order="a", number=1))
        put(Noted(order="a", number=2))
        raise ZeroDivisionError
    put(Noted(order="a", number=1))
    assert QueueLayout.objects.filter(context="shop").exists()


# The change


@pytest.mark.catch_up
@pytest.mark.parametrize(("before", "after"), SOURCES)
def test_a_change_of_the_source_in_the_midst_of_a_run_keeps_the_order(before, after):
    """The relay that is at work finds that it has lost its partition, and begins anew."""
    old, new = SettingsApart(**before, BATCH_SIZE=1), SettingsApart(**after)
    old.do(put, *steps(Noted, 3), stream="a")

    def change():
        old.do(put, *steps(Noted, [4]), stream="a")
        new.do(repartition)
        old.do(put, *steps(Noted, [5]), stream="a")
        new.do(put, *steps(Noted, [6]), stream="a")

    with striking("relay.after_commit", change):
        old.do(relay)
    old.do(run_all)
    assert entries() == [1, 2, 3, 4, 5, 6]
    sent_from_stream = StoredEvent.objects.filter(in_outbox=False, version__gt=4).count()
    assert sent_from_stream == (2 if after == STREAM else 0)


@pytest.mark.catch_up
@pytest.mark.parametrize(("before", "after"), SOURCES)
def test_an_old_process_records_where_the_new_source_is(before, after):
    """With a stream, without one, and for later; with the first message after the change."""
    old, new = SettingsApart(**before), SettingsApart(**after)
    old.do(put, *steps(Noted, 1))
    new.do(repartition)
    old.do(put, *steps(Noted, [2]))
    old.do(put, *steps(Noted, [3]), stream="a")
    old.do(put, *steps(Sold, [4]))
    assert old._seen[("default", "shop")] == ("stream" if after == STREAM else "outbox")
    placed = [OutboxMessage.objects.exclude(state="sent").count(), StoredEvent.objects.count()]
    assert placed == ([1, 3] if after == STREAM else [4, 2])
    new.do(run_all)
    assert (entries(), picks()) == ([1, 2, 3], [4])


@pytest.mark.catch_up
def test_an_event_for_later_is_in_the_outbox_also_while_the_stream_is_the_source():
    """An old process may give ``at`` together with ``stream``; its event must not be sent at once."""
    old, new = SettingsApart(), SettingsApart(**STREAM)
    new.do(repartition)
    old.do(put, *steps(Noted, 1), stream="a", at=come_due_in(hours=1))
    new.do(run_all)
    assert (entries(), states()) == ([], ["pending"])
    come_due()
    new.do(run_all)
    assert entries() == [1]


def come_due_in(**span):
    """Return a time that is that far away."""
    from django.utils import timezone

    return timezone.now() + timedelta(**span)


@pytest.mark.parametrize(("before", "after"), BOTH)
def test_a_change_and_its_way_back_keep_the_order(before, after):
    """With something under way at each change, and with a key that has failed."""
    old, new = SettingsApart(**before), SettingsApart(**after)
    number = 0
    with playing(note=failing(2, order="o3")):
        for changed in (old, new, old, new, old):
            changed.do(repartition)
            for process in (new, old, new):
                number += 1
                process.do(put, *of_each(Noted, number), stream="a" if number % 2 else None)
            old.do(relay, limit=9)
            new.do(dispatch, limit=9)
    new.do(retry, Selection(context="shop"))
    new.do(run_all)
    assert all(entries(order=order) == [*range(1, number + 1)] for order in ORDERS)


# Transactions that are open at a change


@pytest.mark.server
@pytest.mark.parametrize(("before", "after"), BOTH)
def test_a_change_waits_for_transactions_that_have_recorded(monkeypatch, before, after):
    """They would commit to a place that no worker reads any more, or that is read too late."""
    monkeypatch.setattr(table_locks, "LOCK_TIMEOUT", 20)
    old, new = SettingsApart(**before), SettingsApart(**after)
    old.do(relay)
    with Worker() as writer, Worker() as operator, old.running():
        with writer.transaction():
            writer.do(record, *of_each(Checked, 1))
        deliver(*of_each(Noted, 1))
        with writer.transaction():
            writer.do(record, *of_each(Noted, 2))
            with new.running():
                operated = operator.start(repartition, [get_context("shop")])
                eventually(waits_for_lock, "the operator waits")
                assert not operated.done()
        with new.running():
            operated.result(PATIENCE)
    old.do(put, *of_each(Noted, 3))
    new.do(run_all)
    assert all(entries(order=order) == [1, 2, 3] for order in ORDERS)
    assert all(picks(order=order) == [1] for order in ORDERS)


@pytest.mark.server
@pytest.mark.parametrize(("before", "after"), BOTH)
def test_what_is_recorded_during_a_change_is_placed_by_the_new_layout(monkeypatch, before, after):
    """A statement that waits for the change does not act by what was in force when it began."""
    old, new = SettingsApart(**before), SettingsApart(**after)
    old.do(put, *of_each(Noted, 1))
    reassign, waiting = repartitioning._reassign_rows, []
    with Worker() as writer, new.running():

        def change(*arguments):
            if not waiting:
                waiting.append(writer.start(put, *of_each(Noted, 2)))
                eventually(waits_for_lock, "the writer waits")
            return reassign(*arguments)

        monkeypatch.setattr(repartitioning, "_reassign_rows", change)
        repartition([get_context("shop")])
        waiting[0].result(PATIENCE)
    placed = set(OutboxMessage.objects.filter(state="pending").values_list("key_hash", "partition"))
    count = new.do(stored_layout, get_context("shop")).outbox
    assert {number == hashed % count for hashed, number in placed} <= {True}
    new.do(run_all)
    assert all(entries(order=order) == [1, 2] for order in ORDERS)


@pytest.mark.postgres
def test_a_transaction_that_sees_the_past_is_refused_after_a_change():
    """At REPEATABLE READ it would place its message by what was in force before."""
    old, new = SettingsApart(), SettingsApart(PARTITIONS={"outbox": 3})
    old.do(relay)

    def begin():
        options = {**connection.settings_dict["OPTIONS"], "isolation_level": 3}
        connection.settings_dict = {**connection.settings_dict, "OPTIONS": options}
        connection.close()

    def look():
        return QueueLayout.objects.count()

    with Worker() as writer, old.running():
        writer.do(begin)
        with writer.transaction():
            writer.do(look)
            new.do(repartition)
            with pytest.raises(OperationalError, match="could not serialize"):
                writer.do(record, *of_each(Noted, 1))
            writer.do(transaction.set_rollback, True)


def test_a_change_that_fails_changes_nothing(monkeypatch):
    """The layout, the partitions and the rows are one transaction."""
    old, new = SettingsApart(), SettingsApart(PARTITIONS={"outbox": 3})
    old.do(put, *of_each(Noted, 1))
    old.do(relay, limit=1)

    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(repartitioning, "_reassign_rows", fail)
    with pytest.raises(ZeroDivisionError):
        new.do(repartition)
    assert new.do(stored_layout, get_context("shop")) == Layout("shop", "outbox", 1, 8)
    old.do(run_all)
    assert all(entries(order=order) == [1] for order in ORDERS)


# Everything, by chance


def wild(chance, processes, kinds):
    """Do something by chance, as one of the processes; return what was recorded: key, number."""
    process = chance.choice(processes)
    act = chance.choice(["put", "put", "put", "relay", "relay", "dispatch", "dispatch", "change"])
    if act == "put":
        keys = chance.sample(ORDERS[:5], 2)
        stream = chance.choice([None, "a", "b"])
        events = []
        for key in keys:
            kinds[key] += 1
            events += [event(order=key, number=kinds[key]) for event in (Noted, Checked)]
        with process.running(), transaction.atomic():
            record(*events, stream=stream)
    elif act == "relay":
        process.do(relay, limit=chance.randrange(1, 9))
    elif act == "dispatch":
        process.do(dispatch, limit=chance.randrange(1, 9))
        process.do(receive)
        process.do(dispatch, "depot", limit=chance.randrange(1, 9))
    elif chance.random() < 0.4:
        process.do(repartition, [get_context("shop"), get_context("depot")])


def unsteady(chance):
    """Return a part of a handler that fails now and then, once for each event."""
    met = set()

    def fail(event, *_):
        if chance.random() < 0.1 and (event.order, event.number) not in met:
            met.add((event.order, event.number))
            raise OSError("not now")

    return fail


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_processes_with_other_settings_do_in_turn_nothing_is_lost_or_out_of_order(seed):
    """Writers, movers and operators of three settings; failures and retries; and all is handled once."""
    chance = random.Random(seed)
    short = {"BATCH_SIZE": 3}
    chosen = [{"PARTITIONS": {"inbox": 3}}, {"PARTITIONS": {"outbox": 3, "inbox": 5}}]
    if connection.vendor != "mysql":
        chosen += [{**STREAM, "PARTITIONS": {"inbox": 2}}]
    processes = [SettingsApart(**short, **each) for each in chosen]
    numbers = Counter()
    with playing(note=unsteady(chance), pick=unsteady(chance)):
        for _ in range(70):
            wild(chance, processes, numbers)
    last = chance.choice(processes)
    last.do(repartition)
    for label in ("shop", "depot"):
        last.do(retry, Selection(context=label))
    last.do(run_all)
    for key, number in numbers.items():
        assert entries(order=key) == [*range(1, number + 1)], (seed, key)
        assert picks(order=key) == [*range(1, number + 1)], (seed, key)
    assert not OutboxMessage.objects.exclude(state="sent").exists()
    assert not Delivery.objects.exclude(state="done").exists()
    assert Entry.objects.filter(consumer="note").count() == sum(numbers.values())
