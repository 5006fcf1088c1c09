"""A context goes to another database while everything goes on: nothing lost, repeated, reordered."""

import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connections, transaction
from django.utils import timezone

from context_b.models import CountryBoard, Shipment
from outbox_inbox import PermanentError, record
from outbox_inbox.aggregates import Repository
from outbox_inbox.conf import faults
from outbox_inbox.contexts import contexts, get_context
from outbox_inbox.exceptions import (
    ContextMoved,
    NotAContext,
    OutboxInboxError,
    TransferRefused,
)
from outbox_inbox.inbox import quarantine
from outbox_inbox.models import (
    Delivery,
    DeliveryAttempt,
    InboxMessage,
    OutboxMessage,
    Partition,
    ProcessState,
    QuarantinedMessage,
    QuarantineReason,
    Queue,
    Snapshot,
    StoredEvent,
    Transfer,
    table,
)
from outbox_inbox.operations import (
    Selection,
    discard,
    pause,
    prune,
    queue_stats,
    resume,
    retry,
    table_locks,
    transfer,
)
from outbox_inbox.operations.transfer import guards, tables
from outbox_inbox.operations.transfer.sequences import last_id, set_last_id
from outbox_inbox.streams.subscriptions import follow
from outbox_inbox.transports import ReceivedMessage
from tests.depot.events import Wanted
from tests.depot.models import Parcel, Pick
from tests.shop.events import Checked, Counted, Noted
from tests.shop.models import Entry, Remark
from tests.support.movers import (
    PATIENCE,
    Crash,
    Worker,
    come_due,
    crash,
    deliver,
    dispatch,
    entries,
    eventually,
    failing,
    picks,
    put,
    relay,
    run_all,
    states,
    steps,
    striking,
    waits_for_lock,
)
from tests.support.script import playing

QUEUES = (
    StoredEvent,
    OutboxMessage,
    InboxMessage,
    Delivery,
    DeliveryAttempt,
    QuarantinedMessage,
    ProcessState,
)
pytestmark = pytest.mark.hand_over

LONG_AGO = datetime(2020, 1, 1, 12, tzinfo=UTC)
DURING = sorted(faults.TRANSFER_POINTS - {"transfer.after_abort"})


@pytest.fixture(autouse=True)
def unguarded(committed: None) -> Iterator[None]:
    """Both databases as new, and as they were: no transfer has left a trace."""
    for alias in connections:
        for model in (*QUEUES, Entry, Remark, Pick):
            set_last_id(connections[alias], model, 0)
    yield
    for alias in connections:
        for context in contexts():
            guards.remove_guards(connections[alias], context.label)
        Transfer.objects.using(alias).all().delete()


def deploy(settings: Any, *labels: str) -> None:
    """Run on with settings that name the other database for these contexts."""
    settings.OUTBOX_INBOX = {"CONTEXTS": {label: {"database": "other"} for label in labels}}


def rows(model: Any, using: str, label: str = "shop") -> list[dict[str, Any]]:
    """Return the rows of a context, in order, with all values."""
    found = model.objects.using(using).order_by("pk")
    if model is DeliveryAttempt:
        return list(found.filter(delivery__context=label).values())
    return list((found.filter(context=label) if model in QUEUES else found).values())


def unfinished_business() -> None:
    """Leave the shop with messages in every state, a stream, and rows that refer to each other."""
    put(*steps(Noted, 3), stream="order-a")
    put(*steps(Counted, 2, "b"))
    with playing(note=failing(2, error=PermanentError)):
        run_all()
    put(*steps(Counted, 2, "c"))
    relay()
    put(*steps(Checked, 2, "d"))
    put(*steps(Counted, 1, "e"), at=timezone.now() + timedelta(days=1))
    Remark.objects.create(entry=Entry.objects.earliest("id"))
    now = timezone.now()
    ProcessState.objects.create(
        context="shop",
        process="shop.watch",
        key="a",
        schema_version=1,
        created_at=now,
        changed_at=now,
    )
    odd = ReceivedMessage(receipt=None, attributes={"id": "odd"}, data=b"\xff\x00")
    quarantine.quarantine_messages(
        get_context("shop"), [quarantine.RefusedMessage(odd, QuarantineReason.NOT_JSON, "no text")]
    )


# ----------------------------------------------------------------------------------------- the move


def test_everything_of_the_context_is_on_the_new_side() -> None:
    """Streams, queues, attempts and business tables are there, value by value and id by id."""
    unfinished_business()
    before = {model: rows(model, "default") for model in (*QUEUES, Entry, Remark)}
    assert all(before.values())
    found = transfer.transfer("shop", "other")
    assert {model: rows(model, "other") for model in before} == before
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
    theirs = {model: rows(model, "other", "depot") for model in QUEUES}
    assert theirs[Delivery]
    unfinished_business()
    mine = {model: rows(model, "default") for model in QUEUES}
    transfer.transfer("shop", "other")
    assert {model: rows(model, "other", "depot") for model in QUEUES} == theirs
    for model in QUEUES:
        key = model._meta.pk.name
        moved = [row.pop(key) for row in rows(model, "other")]
        shift = moved[0] - mine[model][0][key]
        assert moved == [row[key] + shift for row in mine[model]]
    held = Delivery.objects.using("other").filter(context="shop")
    assert {each.message.context for each in held} == {"shop"}
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
    numbers = {model: last_id(connections["default"], model) for model in QUEUES}
    transfer.transfer("shop", "other")
    assert {model: last_id(connections["other"], model) for model in QUEUES} == numbers
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
    for model in (*QUEUES, Entry, Remark):
        assert rows(model, "other") == rows(model, "default")


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
    before = {model: rows(model, "default") for model in (Parcel, links)}
    assert transfer.transfer("depot", "other").differences == 0
    after = {model: rows(model, "other") for model in (Parcel, links)}
    assert _plain(after) == _plain(before)
    moved = Parcel.objects.using("other").get(pk=parcel.pk)
    assert (moved.changed, moved.double, bytes(moved.stamp)) == (
        LONG_AGO,
        Decimal("2.500"),
        b"\x00\xff",
    )
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
    """Two rows that exchange a unique value during the copy, or inherit one, are no conflict."""
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
    for model in (Shipment, CountryBoard):
        assert rows(model, "other") == rows(model, "default")
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


# --------------------------------------------------------------------------------- the old settings


def test_an_old_process_cannot_record() -> None:
    """`record()` with the old settings says where the context went, and stores nothing."""
    transfer.transfer("shop", "other")
    with pytest.raises(ContextMoved, match=r"'shop' is closed on this database.*Deploy"):
        put(*steps(Noted, 1))
    with pytest.raises(ContextMoved, match="'shop' is closed"):
        put(*steps(Noted, 1), stream="order-a")
    assert rows(OutboxMessage, "default") == rows(StoredEvent, "default") == []


def test_an_old_process_cannot_change_the_business_tables() -> None:
    """Insert, update and delete on the old tables are refused by the database, with the reason."""
    entry = Entry.objects.create(consumer="note", order="a", number=1)
    transfer.transfer("shop", "other")
    for write in (
        lambda: Entry.objects.create(consumer="note", order="a", number=2),
        lambda: Entry.objects.filter(pk=entry.pk).update(number=2),
        lambda: Entry.objects.filter(pk=entry.pk).delete(),
    ):
        with pytest.raises(DatabaseError, match="'shop' is closed on this database"):
            write()
    assert rows(Entry, "default") == rows(Entry, "other")


def test_an_old_relay_of_another_context_rests(settings: Any) -> None:
    """What it has for the context waits without an attempt, and goes on after the deployment."""
    put(*steps(Checked, 3))
    relay()
    dispatch()
    transfer.transfer("depot", "other")
    assert relay().done == 0
    waiting = OutboxMessage.objects.filter(kind="integration")
    assert set(waiting.values_list("state", "attempts")) == {("pending", 0)}
    assert not InboxMessage.objects.filter(context="depot").exists()
    deploy(settings, "depot")
    come_due()
    run_all()
    assert (picks(), picks("watch")) == ([1, 2, 3], [1, 2, 3])


def test_the_reason_of_a_resting_relay_is_told() -> None:
    """The outbox that cannot reach the closed context backs off, and says why."""
    put(*steps(Checked, 1))
    relay()
    dispatch()
    transfer.transfer("depot", "other")
    assert relay().done == 0
    assert states(kind="integration") == ["pending"]
    (outbox, *_) = queue_stats([get_context("shop")])
    (resting,) = outbox.partitions
    assert (resting.state, "'depot' is closed" in resting.reason) == ("backing off", True)


@pytest.mark.parametrize("sides", [("default", "default"), ("other", "default")])
def test_a_relay_that_rests_is_back_soon_after_the_deployment(
    settings: Any, sides: tuple[str, str]
) -> None:
    """However long the context was closed, nobody rests longer than five seconds for it."""
    settings.OUTBOX_INBOX = {"CONTEXTS": {"shop": {"database": sides[0]}}}
    put(*steps(Checked, 1))
    relay()
    dispatch()
    before = Partition.objects.using(sides[0]).filter(context="shop", queue="outbox")
    before.update(outages=30)
    transfer.transfer("depot", "other")
    relay()
    resting = before.get()
    assert (resting.outages, "'depot' is closed" in resting.error) == (31, True)
    assert resting.retry_at is not None
    assert resting.retry_at - timezone.now() <= timedelta(seconds=5)


def test_old_movers_stay_away_and_operators_cannot_resume() -> None:
    """The partitions on the old side are paused, say why, and stay so."""
    put(*steps(Noted, 1))
    transfer.transfer("shop", "other")
    assert run_all().done == 0
    assert (entries(), states()) == ([], ["pending"])
    with pytest.raises(ContextMoved, match="'shop' is closed"):
        resume(get_context("shop"), Queue.OUTBOX)
    (outbox, *_) = queue_stats([get_context("shop")])
    assert [(each.state, each.reason) for each in outbox.partitions] == [
        ("paused", "transferred to other")
    ]


def test_an_operator_cannot_solve_what_has_gone() -> None:
    """Retry and discard on the old side are refused, and change nothing."""
    unfinished_business()
    transfer.transfer("shop", "other")
    before = {model: rows(model, "default") for model in QUEUES}
    chosen = Selection(context="shop")
    for act in (
        lambda: retry(chosen),
        lambda: discard(chosen, "not needed", unfinished=True),
    ):
        with pytest.raises(ContextMoved, match="'shop' is closed"):
            act()
    assert {model: rows(model, "default") for model in QUEUES} == before


def test_other_contexts_go_on_on_the_old_side() -> None:
    """The guard is that of one context: what else lives there records, relays and handles."""
    transfer.transfer("shop", "other")
    put(*(Wanted(order="a", number=number) for number in (1, 2)))
    relay("depot")
    dispatch("depot")
    assert picks() == [1, 2]


def test_a_process_that_is_ahead_waits(settings: Any) -> None:
    """With the new settings nothing can be written before the new side is open."""
    put(*steps(Noted, 1))
    transfer.transfer("shop", "other", hold=True)
    deploy(settings, "shop")
    with pytest.raises(ContextMoved, match="'shop' is not open on this database yet"):
        put(*steps(Noted, [2]))
    assert run_all().done == 0
    with pytest.raises(ContextMoved, match="not open"):
        resume(get_context("shop"), Queue.OUTBOX)
    transfer.transfer("shop", "other")
    put(*steps(Noted, [2]))
    run_all()
    assert entries() == [1, 2]


def test_prune_leaves_alone_what_is_being_compared() -> None:
    """On both sides nothing is pruned between closing and opening."""
    put(*steps(Noted, 2))
    run_all()
    transfer.transfer("shop", "other", hold=True)
    assert [each.total for each in prune(older_than=timedelta(0))] == [0] * len(contexts())
    assert transfer.verify_transfer("shop", "other").differences == 0
    transfer.abort_transfer("shop", "other")
    assert sum(each.total for each in prune(older_than=timedelta(0))) > 0


# ------------------------------------------------------------------------------- while orders come


def test_writers_go_on_until_they_are_refused(settings: Any) -> None:
    """All that was committed before the refusal is on the new side, and nothing after it."""
    stored: list[int] = []
    refused, moved = threading.Event(), threading.Event()

    def write() -> None:
        try:
            while not moved.is_set():
                put(Noted(order="a", number=len(stored) + 1))
                stored.append(len(stored) + 1)
        except ContextMoved:
            refused.set()

    def move() -> None:
        try:
            eventually(lambda: len(stored) > 20, "some events")
            transfer.transfer("shop", "other")
        finally:
            moved.set()

    def work() -> None:
        while not moved.is_set():
            relay()
            dispatch()

    with Worker() as writer, Worker() as mover, Worker() as worker:
        tasks = [writer.start(write), worker.start(work), mover.start(move)]
        for task in tasks:
            task.result(PATIENCE * 3)
    assert refused.is_set()
    deploy(settings, "shop")
    assert run_all().failed == 0
    assert entries() == stored
    sent = OutboxMessage.objects.using("other").filter(state="sent")
    assert [json.loads(row.payload)["number"] for row in sent.order_by("id")] == stored


def test_a_writer_that_is_faster_than_the_copy_does_not_hold_it_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is recorded during the copy is left to its last part: the copy comes to an end."""
    monkeypatch.setattr(tables, "CHUNK", 1)
    put(*steps(Noted, 2))
    numbers = itertools.count(3)
    insert = tables.Table.insert_rows

    def slowly(*arguments: Any) -> None:
        insert(*arguments)
        if not Transfer.objects.filter(state="closed").exists():
            with Worker() as writer:
                writer.do(put, Noted(order="a", number=next(numbers)))

    monkeypatch.setattr(tables.Table, "insert_rows", slowly)
    found = transfer.transfer("shop", "other")
    assert (found.copied, found.changed) == (2, 2)
    assert rows(OutboxMessage, "other") == rows(OutboxMessage, "default")


@pytest.mark.postgres
def test_a_transaction_that_is_open_is_waited_for(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was recorded before the closing and is committed during it moves as well."""
    monkeypatch.setattr(table_locks, "LOCK_TIMEOUT", 20)
    with Worker() as writer, Worker() as mover:
        with writer.transaction():
            writer.do(record, Noted(order="a", number=1))
            moving = mover.start(transfer.transfer, "shop", "other")
            eventually(waits_for_lock, "the transfer waits for the writer")
        moving.result(PATIENCE)
    assert len(rows(OutboxMessage, "other")) == 1


@pytest.mark.postgres
def test_a_transaction_that_stays_open_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The locks are asked for briefly, so that nobody queues behind us, and given up at last."""
    monkeypatch.setattr(table_locks, "LOCK_TIMEOUT", 0.05)
    monkeypatch.setattr(table_locks, "PATIENCE", 0.2)
    with Worker() as writer, writer.transaction():
        writer.do(record, Noted(order="a", number=1))
        with pytest.raises(OutboxInboxError, match=r"has been open .* run the same command again"):
            transfer.transfer("shop", "other")
    assert transfer.transfer("shop", "other").state == "open"


@pytest.mark.postgres
def test_a_snapshot_from_before_does_not_help() -> None:
    """A transaction that does not see the closing is refused all the same."""
    with Worker() as writer, writer.transaction():
        writer.do(_repeatable_read)
        transfer.transfer("shop", "other")
        with pytest.raises(ContextMoved):
            writer.do(_record_and_roll_back)


def _repeatable_read() -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM outbox_inbox_transfer")


def _record_and_roll_back() -> None:
    with transaction.atomic():
        record(Noted(order="a", number=1))


# ----------------------------------------------------------------------------- stopped and repeated


@pytest.mark.parametrize("point", DURING)
def test_a_crash_at_any_step_is_made_good_by_repeating(settings: Any, point: str) -> None:
    """Killed there, with work going on in between, the same command comes to the same end."""
    unfinished_business()
    _crash_at(point)
    extra = 0
    try:
        put(*steps(Counted, 1, "late"))
        extra = 1
    except ContextMoved:
        pass
    before = {model: rows(model, "default") for model in (*QUEUES, Entry, Remark)}
    assert transfer.transfer("shop", "other").state == "open"
    assert {model: rows(model, "other") for model in before} == before
    again = transfer.transfer("shop", "other")
    assert (again.state, again.copied, again.changed) == ("open", 0, 0)
    deploy(settings, "shop")
    run_all()
    assert entries("count", "c") == [1, 2]
    assert entries("count", "late") == [1] * extra
    assert entries("note") == [1]


@pytest.mark.parametrize("point", [None, *DURING])
def test_a_hand_over_that_is_not_open_can_be_taken_back(point: str | None) -> None:
    """After `abort` the old side works as before, and the new one is empty."""
    unfinished_business()
    pause(get_context("shop"), Queue.OUTBOX)
    before = {model: rows(model, "default") for model in (*QUEUES, Entry, Remark)}
    if point == "transfer.after_open":
        _crash_at(point)
        with pytest.raises(TransferRefused, match="lives on 'other' already"):
            transfer.abort_transfer("shop", "other")
        return
    if point is None:
        transfer.transfer("shop", "other", hold=True)
    else:
        _crash_at(point)
    assert transfer.abort_transfer("shop", "other")
    assert not transfer.abort_transfer("shop", "other")
    assert {model: rows(model, "default") for model in before} == before
    assert not any(rows(model, "other") for model in before)
    paused = Partition.objects.filter(context="shop", paused=True)
    assert list(paused.values_list("queue", flat=True)) == ["outbox"]
    resume(get_context("shop"), Queue.OUTBOX)
    run_all()
    assert entries("count", "c") == [1, 2]
    assert transfer.transfer("shop", "other").state == "open"


def _crash_at(point: str) -> None:
    with pytest.raises(Crash), striking(point, crash):
        transfer.transfer("shop", "other")


def test_an_abort_is_brought_to_its_end_first() -> None:
    """A transfer that is half aborted cannot go on."""
    put(*steps(Noted, 1))
    transfer.transfer("shop", "other", hold=True)
    with pytest.raises(Crash), striking("transfer.after_abort", crash):
        transfer.abort_transfer("shop", "other")
    with pytest.raises(TransferRefused, match="--abort to the end"):
        transfer.transfer("shop", "other")
    put(*steps(Noted, [2]))
    assert transfer.abort_transfer("shop", "other")
    assert transfer.transfer("shop", "other").state == "open"


def test_a_row_that_somebody_changed_is_found_and_put_right() -> None:
    """`verify` sees a value that is not the same; the next call of the command copies it again."""
    unfinished_business()
    transfer.transfer("shop", "other", hold=True)
    entry = Entry.objects.using("other").earliest("id")
    rows_ = Transfer.objects.using("other")
    with transaction.atomic(using="other"):
        rows_.update(writing=True)
        Entry.objects.using("other").filter(pk=entry.pk).update(number=77)
        rows_.update(writing=False)
    assert transfer.verify_transfer("shop", "other").differences == 1
    out = StringIO()
    with pytest.raises(CommandError, match="1 difference between") as caught:
        call_command("transfer_context", "shop", to="other", verify=True, stdout=out)
    assert caught.value.returncode == 3
    assert transfer.transfer("shop", "other").changed == 1
    assert rows(Entry, "other") == rows(Entry, "default")


def test_there_and_back_again(settings: Any) -> None:
    """A context can go back to a database that it has left, once that is cleaned."""
    put(*steps(Noted, 2))
    run_all()
    transfer.transfer("shop", "other")
    deploy(settings, "shop")
    put(*steps(Noted, [3]))
    with pytest.raises(TransferRefused, match=r"has rows of 'shop'.*--clean"):
        transfer.transfer("shop", "default")
    assert transfer.clean_old_side("shop", "other", old="default") > 0
    assert not any(rows(model, "default") for model in (*QUEUES, Entry))
    transfer.transfer("shop", "default")
    with pytest.raises(ContextMoved):
        put(*steps(Noted, [4]))
    settings.OUTBOX_INBOX = {}
    put(*steps(Noted, [4]))
    run_all()
    assert entries() == [1, 2, 3, 4]


def test_what_is_left_behind_can_be_cleaned_and_is_still_refused() -> None:
    """`--clean` empties the old side of this context only; its old processes are refused as ever."""
    put(*steps(Checked, 2))
    run_all()
    with pytest.raises(TransferRefused, match="has not been transferred"):
        transfer.clean_old_side("shop", "other")
    transfer.transfer("shop", "other")
    transfer.clean_old_side("shop", "other")
    assert not any(rows(model, "default") for model in (*QUEUES, Entry))
    assert rows(InboxMessage, "default", "depot")
    with pytest.raises(ContextMoved):
        put(*steps(Noted, 1))


# ----------------------------------------------------------------------------------- what is refused


def test_wrong_names_are_refused() -> None:
    """An unknown context, an unknown database and the one it lives on are told apart."""
    with pytest.raises(NotAContext, match="no context 'shopp'"):
        transfer.plan_transfer("shopp", "other")
    with pytest.raises(TransferRefused, match=r"no database 'othr' in DATABASES.*'other'"):
        transfer.plan_transfer("shop", "othr")
    with pytest.raises(TransferRefused, match="lives on the database 'default' already"):
        transfer.plan_transfer("shop", "default")


def test_tables_that_are_missing_are_named() -> None:
    """The error names the tables and the command that makes them."""
    with connections["other"].cursor() as cursor:
        cursor.execute("ALTER TABLE depot_pick RENAME TO depot_pick_away")
    try:
        with pytest.raises(
            TransferRefused, match=r"depot_pick: run manage.py migrate --database other"
        ):
            transfer.transfer("depot", "other")
    finally:
        with connections["other"].cursor() as cursor:
            cursor.execute("ALTER TABLE depot_pick_away RENAME TO depot_pick")


def test_a_context_that_was_never_elsewhere(settings: Any) -> None:
    """Where its ContextConfig names a database without its tables, there is nothing to be moved."""
    deploy(settings, "depot")
    with connections["default"].cursor() as cursor:
        cursor.execute("ALTER TABLE depot_pick RENAME TO depot_pick_away")
    try:
        with pytest.raises(TransferRefused, match="lives on the database 'other' already"):
            transfer.plan_transfer("depot", "other")
    finally:
        with connections["default"].cursor() as cursor:
            cursor.execute("ALTER TABLE depot_pick_away RENAME TO depot_pick")


def test_rows_of_a_stranger_on_the_new_side_are_not_touched() -> None:
    """Rows of the context that did not come from this transfer stop it before it begins."""
    Pick.objects.using("other").create(consumer="pick", order="a", number=1)
    with pytest.raises(TransferRefused, match=r"has rows of 'depot'.*depot_pick"):
        transfer.transfer("depot", "other")
    assert not Transfer.objects.using("other").exists()
    Pick.objects.using("other").create(consumer="pick", order="a", number=2)
    put(Wanted(order="a", number=1))


def test_two_hand_overs_of_a_context_do_not_meet(settings: Any) -> None:
    """Begun in one direction it can neither be begun in the other, nor a second time elsewhere."""
    transfer.transfer("shop", "other", hold=True)
    with pytest.raises(TransferRefused, match="being transferred"):
        transfer.transfer("shop", "default", old="other")
    transfer.transfer("shop", "other")
    deploy(settings, "shop")
    with pytest.raises(TransferRefused, match="lives on the database 'other' already"):
        transfer.transfer("shop", "other", old="other")


# ------------------------------------------------------------------------------------- the command


def run(*arguments: str, **options: Any) -> str:
    """Run the command and return what it printed."""
    out = StringIO()
    call_command("transfer_context", *arguments, stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


def test_a_dry_run_counts_and_changes_nothing() -> None:
    """It says how many rows of which table would go, and nothing is closed."""
    put(*steps(Noted, 2))
    printed = run("shop", "--to", "other", "--dry-run")
    assert "outbox_inbox_outboxmessage: 2 rows" in printed
    assert "2 rows of shop would go from 'default' to 'other'" in printed
    assert not Transfer.objects.exists()
    assert not Transfer.objects.using("other").exists()
    put(*steps(Noted, [3]))


def test_the_command_says_what_to_deploy() -> None:
    """The last line names the setting, and the report says that both sides are the same."""
    put(*steps(Noted, 2))
    printed = run("shop", "--to", "other")
    assert "outbox_inbox_outboxmessage: 2 rows, the same" in printed
    assert 'OUTBOX_INBOX["CONTEXTS"]["shop"] = {"database": "other"}' in printed


def test_the_command_prints_one_document() -> None:
    """With --format json the report is one JSON document."""
    put(*steps(Noted, 2))
    held = json.loads(run("shop", "--to", "other", "--hold", "--format", "json"))
    assert (held["state"], held["from"], held["to"]) == ("moved", "default", "other")
    found = json.loads(run("shop", "--to", "other", "--format", "json"))
    assert (found["state"], found["differences"]) == ("open", 0)
    counts = {each["table"]: each["rows"] for each in found["tables"]}
    assert counts["outbox_inbox_outboxmessage"] == 2
    assert all(len(each["checksum"]) == 64 for each in found["tables"])


@pytest.mark.parametrize(("label", "to", "code"), [("shopp", "other", 2), ("shop", "nowhere", 1)])
def test_exit_codes(label: str, to: str, code: int) -> None:
    """A context that does not exist is wrong usage; a transfer that cannot be is an error."""
    with pytest.raises(CommandError) as caught:
        run(label, "--to", to)
    assert caught.value.returncode == code


def test_the_command_takes_back_and_cleans() -> None:
    """--abort and --clean say what they have done."""
    put(*steps(Noted, 1))
    run("shop", "--to", "other", "--hold")
    assert "Aborted" in run("shop", "--to", "other", "--abort")
    assert "Nothing to abort" in run("shop", "--to", "other", "--abort")
    run("shop", "--to", "other")
    assert "Deleted 1 row of shop" in run("shop", "--to", "other", "--clean")


def test_every_model_of_the_queues_goes_along_or_has_a_reason_not_to() -> None:
    """A model that is new to the app cannot be forgotten."""
    models = {each.__name__ for each in apps.get_app_config("outbox_inbox").get_models()}
    assert {each.model for each in transfer.QUEUE_TABLES} | transfer.NOT_COPIED == models


def test_the_old_side_can_be_named(settings: Any) -> None:
    """With the new settings deployed already, the old side is that of the ContextConfig, or named."""
    put(*steps(Noted, 1))
    deploy(settings, "shop")
    assert transfer.plan_transfer("shop", "other").old == "default"
    assert transfer.transfer("shop", "other", old="default").state == "open"
    run_all()
    assert entries() == [1]


def test_deliveries_find_their_messages_again(settings: Any) -> None:
    """What was read into the inbox before is handled after the move, in its order."""
    deliver(*steps(Noted, 5))
    transfer.transfer("shop", "other")
    deploy(settings, "shop")
    run_all()
    assert entries() == [1, 2, 3, 4, 5]


# ------------------------------------------------------------------------------------ subscriptions


def read(name: str, size: int = 100) -> list[int]:
    """Read on in the shop's stream; return the versions."""
    found: list[int] = []
    while True:
        with follow(get_context("shop"), name) as cursor:
            assert cursor is not None
            page = cursor.read(size)
            cursor.save()
            found += [row.version for row in page]
            if cursor.caught_up:
                return found


def read_page(name: str, size: int) -> None:
    """Read one page, and leave the rest."""
    with follow(get_context("shop"), name) as cursor:
        assert cursor is not None
        cursor.read(size)
        cursor.save()


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
