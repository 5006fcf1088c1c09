"""A context goes to another database while everything goes on: nothing lost, repeated, reordered."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.db import DatabaseError, connections, transaction

from context_b.models import CountryBoard, Shipment
from outbox_inbox.aggregates import Repository
from outbox_inbox.contexts import get_context
from outbox_inbox.models import (
    Checkpoint,
    Delivery,
    OperatorAction,
    OutboxMessage,
    Partition,
    Queue,
    Snapshot,
    table,
)
from outbox_inbox.operations import pause, resume, transfer
from outbox_inbox.operations.transfer import guards, tables
from outbox_inbox.operations.transfer.sequences import last_id
from outbox_inbox.operations.transfer.tables import QUEUE_MODELS
from outbox_inbox.streams.subscriptions import follow
from tests.depot.events import Wanted
from tests.depot.models import Parcel, Pick
from tests.shop.events import Checked, Noted
from tests.shop.models import Entry, Remark
from tests.support.movers import deliver, entries, picks, put, relay, run_all, steps, striking
from tests.support.transfers import deploy, everything, rows, unfinished_business

pytestmark = [pytest.mark.hand_over, pytest.mark.usefixtures("unguarded")]

LONG_AGO = datetime(2020, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2100, 1, 1, 12, tzinfo=UTC)


def test_everything_of_the_context_is_on_the_new_side() -> None:
    """Streams, queues, attempts and business tables are there, value by value and id by id."""
    unfinished_business()
    before = everything("default")
    assert all(before.values())
    found = transfer.transfer("shop", "other")
    assert everything("other") == before
    assert (found.state, found.differences) == ("open", 0)
    assert {each.table: each.rows for each in found.tables} == {
        table(model): len(before[model]) for model in before
    }


def test_the_context_goes_on_where_it_was(settings: Any) -> None:
    """What was ready is handled, what waits for a dead head still waits, what is due later is."""
    unfinished_business()
    transfer.transfer("shop", "other")
    deploy(settings, "shop")
    run_all()
    assert entries("note") == [1]
    assert entries("count", "c") == [1, 2]
    assert picks(order="d") == [1, 2]
    waiting = Delivery.objects.using("other").filter(state="waiting", context="shop")
    assert [each.message.payload for each in waiting] == ['{"number":3,"order":"a"}']
    assert OutboxMessage.objects.using("other").filter(state="pending").count() == 1


def test_a_message_that_comes_again_is_known(settings: Any) -> None:
    """The memory of duplicates goes along: what was handled before the move is not handled again."""
    put(*steps(Checked, 2))
    run_all()
    assert (picks(), picks("watch")) == ([1, 2], [1, 2])
    transfer.transfer("depot", "other")
    deploy(settings, "depot")
    assert OutboxMessage.objects.filter(kind="integration").update(state="pending") == 2
    put(*steps(Checked, [3]))
    run_all()
    assert (picks(), picks("watch")) == ([1, 2, 3], [1, 2, 3])


def test_ids_that_others_have_on_the_new_side_stay_theirs(settings: Any) -> None:
    """Beside the rows of another context all ids move up together: order and references hold."""
    deploy(settings, "depot")
    put(*steps(Checked, 3, "z"))
    run_all()
    theirs = everything("other", QUEUE_MODELS, "depot")
    assert theirs[Delivery]
    unfinished_business()
    mine = everything("default", QUEUE_MODELS)
    transfer.transfer("shop", "other")
    assert everything("other", QUEUE_MODELS, "depot") == theirs
    for model in QUEUE_MODELS:
        key = model._meta.pk.name
        moved = [row.pop(key) for row in rows(model, "other")]
        shift = moved[0] - mine[model][0][key]
        assert moved == [row[key] + shift for row in mine[model]]
    held = Delivery.objects.using("other").filter(context="shop")
    assert {each.message.context for each in held} == {"shop"}
    (action,) = OperatorAction.objects.using("other").filter(context="shop")
    assert action.delivery in held
    deploy(settings, "shop", "depot")
    put(*steps(Checked, 2, "y"))
    run_all()
    assert picks(order="y") == [1, 2]
    assert entries("count", "c") == [1, 2]


def test_ids_are_given_out_once(settings: Any) -> None:
    """The next row gets the next id, also when the last one has been deleted on the old side."""
    entry = Entry.objects.create(consumer="note", order="a", number=1)
    used = Entry.objects.create(consumer="note", order="a", number=2).pk
    Entry.objects.filter(pk=used).delete()
    put(*steps(Noted, 2))
    numbers = {model: last_id(connections["default"], model) for model in QUEUE_MODELS}
    transfer.transfer("shop", "other")
    assert {model: last_id(connections["other"], model) for model in QUEUE_MODELS} == numbers
    deploy(settings, "shop")
    assert Entry.objects.create(consumer="note", order="a", number=3).pk == used + 1 > entry.pk


def test_what_changes_during_the_copy_is_as_it_was_last() -> None:
    """Rows made, changed, deleted and exchanged while rows are copied arrive in their last state."""
    first, second = (
        Entry.objects.create(consumer="note", order="a", number=number) for number in (1, 2)
    )
    Remark.objects.create(entry=first)
    put(*steps(Noted, 2))

    def change() -> None:
        first.delete()
        Entry.objects.filter(pk=second.pk).update(number=9)
        Remark.objects.create(entry=Entry.objects.create(consumer="note", order="b", number=3))
        run_all()
        put(*steps(Noted, [3]))

    with striking("transfer.after_copy", change):
        found = transfer.transfer("shop", "other")
    assert found.changed > 0
    assert everything("other") == everything("default")


@pytest.fixture
def parcel(unguarded: None) -> Iterator[Parcel]:
    """A parcel within another one, with a value of every sort."""
    pick_ = Pick.objects.create(consumer="pick", order="a", number=1)
    values = {"weight": Decimal("1.250"), "stamp": b"\x00\xff", "travels": timedelta(days=1.5)}
    outer = Parcel.objects.create(number=uuid4(), label=None, **values)
    inner = Parcel.objects.create(number=uuid4(), label={"ä": [1, None, 0.5]}, **values)
    # The later row is within the earlier one, and the other way round.
    Parcel.objects.filter(pk=outer.pk).update(within=inner, changed=LONG_AGO)
    Parcel.objects.filter(pk=inner.pk).update(within=outer, changed=LONG_AGO)
    inner.picks.add(pick_)
    yield inner
    for alias in connections:
        guards.remove_guards(connections[alias], "depot")
        Parcel.picks.through.objects.using(alias).all().delete()
        with transaction.atomic(using=alias):
            Parcel.objects.using(alias).all().delete()


def test_values_of_every_sort_arrive_as_they_are(settings: Any, parcel: Parcel) -> None:
    """No time stamp is renewed, no reference waits for its row, and links come along."""
    links = Parcel.picks.through
    before = everything("default", (Parcel, links))
    assert transfer.transfer("depot", "other").differences == 0
    after = everything("other", (Parcel, links))
    assert _plain(after) == _plain(before)
    moved = Parcel.objects.using("other").get(pk=parcel.pk)
    assert (moved.changed, moved.double) == (LONG_AGO, Decimal("2.500"))
    assert bytes(moved.stamp) == b"\x00\xff"
    assert [each.number for each in moved.picks.all()] == [1]


def _plain(found: dict[Any, list[dict[str, Any]]]) -> list[Any]:
    return [
        {name: bytes(value) if name == "stamp" else value for name, value in row.items()}
        for rows_ in found.values()
        for row in rows_
    ]


@pytest.fixture
def shipments(unguarded: None) -> Iterator[list[Shipment]]:
    """Three shipments, whose references are unique, and a board, whose key is a text."""
    for country in ("Österreich", "norway", "Norway", "Åland"):
        CountryBoard.objects.create(country=country, orders=1)
    yield [
        Shipment.objects.create(reference=name, destination="SE", due_on=date(2026, 1, 1))
        for name in "abc"
    ]
    for alias in connections:
        guards.remove_guards(connections[alias], "shipping")
        for model in (Shipment, CountryBoard):
            model.objects.using(alias).all().delete()


def test_unique_values_may_change_places(shipments: list[Shipment]) -> None:
    """Two rows that exchange a unique value during the copy, or inherit one, do not conflict."""
    first, second, third = shipments

    def exchange() -> None:
        third.delete()
        Shipment.objects.create(reference="c", destination="NO", due_on=date(2026, 1, 2))
        for row, name in ((first, "x"), (second, "a"), (first, "b")):
            Shipment.objects.filter(pk=row.pk).update(reference=name)
        CountryBoard.objects.filter(country="norway").delete()
        CountryBoard.objects.filter(country="Norway").update(orders=2)

    with striking("transfer.after_copy", exchange):
        transfer.transfer("shipping", "other")
    both = (Shipment, CountryBoard)
    assert everything("other", both) == everything("default", both)
    assert Shipment.objects.using("other").count() == 3


def test_a_partition_that_was_paused_stays_paused(settings: Any) -> None:
    """The operator's switch goes along; what the transfer paused works again."""
    pause(get_context("shop"), Queue.INBOX, [3])
    transfer.transfer("shop", "other")
    deploy(settings, "shop")
    paused = Partition.objects.using("other").filter(context="shop", paused=True)
    assert list(paused.values_list("queue", "number", "error")) == [("inbox", 3, "")]
    resume(get_context("shop"), Queue.INBOX)
    put(*steps(Noted, 2))
    run_all()
    assert entries() == [1, 2]


def test_every_model_of_the_queues_goes_along_or_has_a_reason_not_to() -> None:
    """A model that is new to the app cannot be forgotten."""
    models = set(apps.get_app_config("outbox_inbox").get_models())
    assert {*tables.QUEUE_MODELS} | tables.NOT_COPIED == models


def test_deliveries_find_their_messages_again(settings: Any) -> None:
    """What was read into the inbox before is handled after the move, in its order."""
    deliver(*steps(Noted, 5))
    transfer.transfer("shop", "other")
    deploy(settings, "shop")
    run_all()
    assert entries() == [1, 2, 3, 4, 5]


# Subscriptions


def read_page(name: str, size: int = 100) -> list[int]:
    """Read one page of the shop's stream; return the versions."""
    with follow(get_context("shop"), name) as cursor:
        assert cursor is not None
        page = cursor.read(size)
        cursor.save()
        return [row.version for row in page]


def read(name: str) -> list[int]:
    """Read on to the end of the shop's stream; return the versions."""
    return list(itertools.chain.from_iterable(iter(lambda: read_page(name), [])))


def test_subscriptions_go_on_where_they_were(settings: Any) -> None:
    """Each has handled on the new side what it had handled on the old one, and gets the rest."""
    put(*steps(Noted, 5), stream="a")
    read_page("slow", 2)
    read("quick")
    put(*steps(Noted, [6]), stream="a")
    transfer.transfer("shop", "other")
    deploy(settings, "shop")
    put(*steps(Noted, [7]), stream="a")
    assert read("quick") == [6, 7]
    assert read("slow") == [3, 4, 5, 6, 7]
    assert read("new") == [1, 2, 3, 4, 5, 6, 7]


def test_a_subscription_that_rests_still_rests(settings: Any) -> None:
    """The operator's pause and the back-off after a failure go along, each with its reason."""
    for name in ("paused", "failed", "working"):
        read_page(name)
    found = Checkpoint.objects.filter(context="shop")
    found.filter(subscription="paused").update(paused=True)
    found.filter(subscription="failed").update(retry_at=LATER, failures=3, error="Broken: no")
    columns = ("subscription", "paused", "retry_at", "failures", "error", "changed_at")
    before = list(found.order_by("subscription").values(*columns))
    transfer.transfer("shop", "other")
    moved = Checkpoint.objects.using("other").filter(context="shop").order_by("subscription")
    assert list(moved.values(*columns)) == before


def test_subscriptions_go_on_beside_the_events_of_others(settings: Any) -> None:
    """Where another context has events, positions move up, and what was handled with them."""
    deploy(settings, "depot")
    put(*steps(Wanted, 4), stream="z")
    deploy(settings)
    put(*steps(Noted, 5), stream="a")
    read_page("slow", 2)
    transfer.transfer("shop", "other")
    deploy(settings, "shop", "depot")
    put(*steps(Noted, [6]), stream="a")
    assert read("slow") == [3, 4, 5, 6]


def test_subscriptions_go_there_and_back(settings: Any) -> None:
    """What is left on the old side does not come up when the context returns."""
    put(*steps(Noted, 3), stream="a")
    read_page("slow", 1)
    transfer.transfer("shop", "other")
    deploy(settings, "shop")
    read_page("slow", 1)
    transfer.clean_old_side("shop", "other", old="default")
    transfer.transfer("shop", "default", old="other")
    deploy(settings)
    assert read("slow") == [3]


def test_a_relay_goes_on_in_the_stream(settings: Any) -> None:
    """A context that is its own source sends what is left, once, from the new side."""
    source = {"source": "stream"}
    settings.OUTBOX_INBOX = {"CONTEXTS": {"shop": source}}
    put(*steps(Noted, 3), stream="a")
    relay(limit=1)
    transfer.transfer("shop", "other")
    settings.OUTBOX_INBOX = {"CONTEXTS": {"shop": {**source, "database": "other"}}}
    put(*steps(Noted, [4]), stream="a")
    run_all()
    assert entries() == [1, 2, 3, 4]


def test_a_subscription_cannot_be_moved_on_where_the_context_is_closed() -> None:
    """A process with the old settings reads nothing more: the database refuses its checkpoint."""
    put(*steps(Noted, 3), stream="a")
    read_page("slow", 1)
    transfer.transfer("shop", "other")
    with pytest.raises(DatabaseError, match="is closed on this database"):
        read_page("slow", 1)


def test_snapshots_stay_behind_and_go_when_it_is_cleaned(settings: Any) -> None:
    """They are taken anew from the streams, which went along."""
    notes = Repository("shop", start=Last, fold=later, stream="note-{}", snapshot_every=2)

    def append(*events: Noted) -> None:
        with notes.atomic():
            notes.load("a").append(*events)

    append(*steps(Noted, 2))
    append(*steps(Noted, [3]))
    transfer.transfer("shop", "other")
    deploy(settings, "shop")
    assert (Snapshot.objects.count(), Snapshot.objects.using("other").count()) == (1, 0)
    append(*steps(Noted, [4]))
    transfer.clean_old_side("shop", "other")
    assert (Snapshot.objects.count(), Snapshot.objects.using("other").count()) == (0, 1)
    assert notes.load("a").state.number == 4


@dataclass
class Last:
    """The last note of an order."""

    order: str
    number: int = 0


def later(last: Last, event: Noted) -> None:
    """Take in the next note."""
    last.number = event.number
