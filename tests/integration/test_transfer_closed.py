"""Where a context is closed, no process can write for it: what was committed before is not lost."""

import itertools
import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connections, transaction
from django.utils import timezone

from outbox_inbox import record
from outbox_inbox.contexts import contexts, get_context
from outbox_inbox.exceptions import ContextMoved, OutboxInboxError
from outbox_inbox.models import (
    Checkpoint,
    DeliveryAttempt,
    InboxMessage,
    OutboxMessage,
    Partition,
    QuarantinedMessage,
    Queue,
    StoredEvent,
    Transfer,
    table,
)
from outbox_inbox.operations import (
    Selection,
    discard,
    prune,
    queue_stats,
    rebase,
    resume,
    retry,
    table_locks,
    transfer,
)
from outbox_inbox.operations.quarantine import QuarantineSelection, discard_quarantined, release
from outbox_inbox.operations.rebuilding import find_read_model, rebuild
from outbox_inbox.operations.transfer import tables
from outbox_inbox.operations.transfer.tables import QUEUE_MODELS
from outbox_inbox.streams.subscriptions import follow
from tests.board.events import Scored
from tests.depot.events import Wanted
from tests.shop.events import Checked, Noted
from tests.shop.models import Entry
from tests.support.movers import (
    PATIENCE,
    Worker,
    come_due,
    dispatch,
    entries,
    eventually,
    picks,
    put,
    relay,
    run_all,
    states,
    steps,
    waits_for_lock,
)
from tests.support.transfers import deploy, everything, rows, unfinished_business

pytestmark = [pytest.mark.hand_over, pytest.mark.usefixtures("unguarded")]


def test_an_old_process_cannot_record() -> None:
    """`record()` with the old settings says where the context went, and stores nothing."""
    transfer.transfer("shop", "other")
    with pytest.raises(ContextMoved, match=r"'shop' is closed on this database.*Deploy"):
        put(*steps(Noted, 1))
    with pytest.raises(ContextMoved, match="'shop' is closed"):
        put(*steps(Noted, 1), stream="order-a")
    assert rows(OutboxMessage, "default") == rows(StoredEvent, "default") == []


def test_an_old_process_cannot_record_into_a_stream_that_is_the_source(settings: Any) -> None:
    """Without an outbox the event is refused where it would be stored, and none is lost."""
    settings.OUTBOX_INBOX = {"CONTEXTS": {"shop": {"source": "stream"}}}
    transfer.transfer("shop", "other")
    with pytest.raises(ContextMoved, match="'shop' is closed"):
        put(*steps(Noted, 1), stream="order-a")
    assert rows(StoredEvent, "default") == []


def insert_again(row: Any) -> None:
    """Insert a copy of a row."""
    row.pk = None
    row.save(using="default", force_insert=True)


# An attempt has no context of its own: it is stored together with a change of its delivery.
CLOSED_MODELS = [each for each in QUEUE_MODELS if each is not DeliveryAttempt] + [Checkpoint]


def is_refused(write: Callable[[Any], None], row: Any) -> bool:
    """Return whether a guard refuses a write."""
    try:
        write(row)
    except DatabaseError as error:
        return "'shop' is closed on this database" in str(error)
    return False


@pytest.mark.parametrize(
    "write",
    [lambda row: row.save(using="default", force_update=True), insert_again],
    ids=["update", "insert"],
)
def test_no_table_of_the_queues_accepts_a_write_for_a_closed_context(
    write: Callable[[Any], None],
) -> None:
    """Whatever program writes there, the database refuses a new row and a change of an old one."""
    unfinished_business()
    with follow(get_context("shop"), "board"):
        pass
    transfer.transfer("shop", "other")
    found = {each: each.objects.filter(context="shop").earliest("pk") for each in CLOSED_MODELS}
    assert [table(each) for each, row in found.items() if not is_refused(write, row)] == []


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
    """However long the context was closed, the relay backs off for five seconds at most."""
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
    before = everything("default", QUEUE_MODELS)
    chosen = Selection(context="shop")
    for act in (
        lambda: retry(chosen),
        lambda: discard(chosen, "not needed", unfinished=True),
    ):
        with pytest.raises(ContextMoved, match="'shop' is closed"):
            act()
    assert everything("default", QUEUE_MODELS) == before


@pytest.mark.parametrize(
    "solve",
    [release, lambda each: discard_quarantined(each, "not needed")],
    ids=["release", "discard"],
)
def test_an_operator_cannot_solve_the_quarantine_that_has_gone(solve: Any) -> None:
    """A message that is given up or checked again on the old side would be quarantined on the new."""
    unfinished_business()
    transfer.transfer("shop", "other")
    before = rows(QuarantinedMessage, "default")
    with pytest.raises(ContextMoved, match="'shop' is closed"):
        solve(QuarantineSelection(context="shop"))
    assert rows(QuarantinedMessage, "default") == before


@pytest.mark.usefixtures("boarded")
def test_a_read_model_that_has_gone_cannot_be_rebuilt() -> None:
    """The rebuild says where its context went, and begins nothing."""
    put(Scored(player="ann", points=1), stream="ann")
    transfer.transfer("board", "other")
    with pytest.raises(ContextMoved, match="'board' is closed"):
        rebuild(*find_read_model("ranking"))


@pytest.mark.postgres
def test_the_checkpoints_of_a_context_that_has_gone_cannot_be_rebased() -> None:
    """A rebase on the old side says where the context went, as every operation does."""
    put(*steps(Noted, 1), stream="a")
    with follow(get_context("shop"), "board"):
        pass
    transfer.transfer("shop", "other")
    with pytest.raises(ContextMoved, match="'shop' is closed"):
        rebase([get_context("shop")])


@pytest.mark.postgres
def test_an_old_process_cannot_empty_a_business_table() -> None:
    """TRUNCATE is a write as well, though it touches no row."""
    transfer.transfer("depot", "other")
    refused = pytest.raises(DatabaseError, match="'depot' is closed on this database")
    with connections["default"].cursor() as cursor, refused:
        cursor.execute("TRUNCATE depot_pick CASCADE")


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


# While orders come


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
    """Each attempt at the locks is brief, so that no writer queues behind it, and the last one ends."""
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
