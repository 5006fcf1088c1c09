"""A database that takes nothing: read-only, without our tables or rights. It costs no attempt."""

from contextlib import contextmanager, nullcontext, suppress
from functools import partial

import pytest
from django.db import (
    DatabaseError,
    DataError,
    InternalError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)

from outbox_inbox import record, signals
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import SettingsError
from outbox_inbox.models import (
    Checkpoint,
    Delivery,
    InboxMessage,
    OutboxMessage,
    Partition,
    ProcessState,
    Queue,
    StoredEvent,
)
from outbox_inbox.operations import queue_stats
from outbox_inbox.operations.stored_checks import check_session
from outbox_inbox.queues import intake
from outbox_inbox.streams.projecting import update_projections
from tests.board.events import Scored
from tests.board.models import HighScore
from tests.shop.contracts import Sold
from tests.shop.events import Checked, Counted, Listed, Noted
from tests.support import wire
from tests.support.handling import delivery, each_way
from tests.support.movers import (
    come_due,
    deliver,
    delivery_states,
    dispatch,
    entries,
    heard,
    leave_token,
    put,
    receive,
    relay,
    run_all,
    states,
    steps,
)
from tests.support.refusing import misspelling, read_only_error, without, writing_in_vain
from tests.support.script import playing
from tests.support.wire import WIRE
from tests.yard.events import Begun

pytestmark = pytest.mark.usefixtures("committed")

TRIES = 3


FINAL = {"MAX_ATTEMPTS": 1}


@pytest.fixture(autouse=True)
def final(settings):
    """The first failed attempt is the last: an attempt that is counted is a dead letter."""
    settings.OUTBOX_INBOX = FINAL


@pytest.fixture
def apart(settings):
    """The depot lives on another database than the shop."""
    settings.OUTBOX_INBOX = {"CONTEXTS": {"depot": {"database": "other"}}, **FINAL}


@pytest.fixture
def alone(one, settings):
    """One partition of the inbox, so that all deliveries are read ahead together."""
    settings.OUTBOX_INBOX = {"PARTITIONS": {"inbox": 1}, **FINAL}


def resting(queue, label="shop"):
    """Return the partitions of a queue that back off."""
    return list(Partition.objects.filter(context=label, queue=queue, outages__gt=0))


def attempts(model=Delivery):
    """Return how many attempts of all rows are counted."""
    return sum(model.objects.values_list("attempts", flat=True))


def back(mover=run_all):
    """Let the pauses be over, and move what there is."""
    come_due()
    mover()


def try_often(mover):
    """Let a mover meet an outage some times."""
    for _ in range(TRIES):
        Partition.objects.update(retry_at=None)
        mover()


# The relay


@pytest.mark.parametrize("after_a_crash", [False, True])
def test_an_inbox_without_its_table_costs_the_relay_no_attempt(after_a_crash):
    """The partition backs off with the reason; everything moves when the table is there."""
    put(*steps(Noted, 3))
    if after_a_crash:
        leave_token(Queue.OUTBOX)
    with without(InboxMessage), heard(signals.partition_backed_off) as told:
        try_often(relay)
        (partition,) = resting(Queue.OUTBOX)
        shown = next(each for each in queue_stats() if each.context == "shop")
    assert (set(states()), attempts(OutboxMessage)) == ({"pending"}, 0)
    assert (partition.outages, len(told)) == (TRIES, TRIES)
    assert "inboxmessage" in partition.error
    assert "inboxmessage" in repr(shown)
    back()
    assert entries() == [1, 2, 3]


@pytest.mark.parametrize(
    "error",
    [
        InternalError("cannot execute INSERT in a read-only transaction"),
        ProgrammingError("permission denied for table outbox_inbox_inboxmessage"),
        SettingsError("its tables lack something"),
        ConnectionResetError("by peer"),
    ],
    ids=["read-only", "rights", "settings", "network"],
)
def test_another_database_that_takes_nothing_is_an_outage(apart, monkeypatch, error):
    """Whatever class of error its driver has for that."""

    def refuse(*_):
        raise error

    put(*steps(Sold, 2))
    with monkeypatch.context() as patch:
        patch.setattr(intake, "insert_messages", refuse)
        try_often(relay)
    assert (set(states()), attempts(OutboxMessage)) == ({"pending"}, 0)
    assert "'other'" in resting(Queue.OUTBOX)[0].error
    back(relay)
    assert set(states()) == {"sent"}


def test_another_database_without_its_tables_is_an_outage(apart):
    """It was restored, and its migrations have not run yet."""
    put(*steps(Sold, 2))
    with without(InboxMessage, "other"):
        try_often(relay)
    assert (set(states()), attempts(OutboxMessage)) == ({"pending"}, 0)
    back(relay)
    assert set(states()) == {"sent"}


def test_values_that_another_database_refuses_are_the_fault_of_their_message(apart, monkeypatch):
    """Those of the other keys pass it."""
    insert = intake.insert_messages

    def refuse(rows, *place):
        if any('"order":"b"' in row.payload for row in rows):
            raise DataError("invalid byte sequence")
        return insert(rows, *place)

    monkeypatch.setattr(intake, "insert_messages", refuse)
    put(*steps(Sold, 1, "a"), *steps(Sold, 1, "b"), *steps(Sold, 1, "c"))
    relay()
    assert states() == ["sent", "dead", "sent"]


def test_a_session_that_is_read_only_for_ever_is_not_kept(apart, monkeypatch):
    """After a failover the old primary may answer still: the next try opens another connection."""
    other = connections["other"]
    closed = []
    monkeypatch.setattr(other, "close", lambda: closed.append(other))

    def refuse(*_):
        raise read_only_error(other)

    put(*steps(Sold, 1))
    monkeypatch.setattr(intake, "insert_messages", refuse)
    relay()
    assert closed == [other]


@pytest.mark.parametrize("error", [OSError("no route"), SettingsError("no such region")])
def test_a_transport_without_its_network_or_settings_is_an_outage(settings, error):
    """Also one of a project that does not say so: the next message would meet it as well."""

    def publish(_):
        raise error

    settings.OUTBOX_INBOX = {**WIRE, **FINAL}
    wire.confirmed.clear()
    put(*steps(Sold, 2))
    with playing(publish=publish):
        try_often(relay)
    assert (set(states()), attempts(OutboxMessage)) == ({"pending"}, 0)
    back(relay)
    assert set(states()) == {"sent"}


def test_what_a_transport_meets_in_a_database_of_its_own_is_a_failed_attempt(settings):
    """It says nothing about the database of the context."""

    def publish(_):
        raise ProgrammingError("no such table: bus")

    settings.OUTBOX_INBOX = {**WIRE, **FINAL}
    put(*steps(Sold, 1))
    with playing(publish=publish):
        relay()
    assert (states(), resting(Queue.OUTBOX)) == (["dead"], [])


@pytest.mark.catch_up
def test_an_outage_leaves_a_stream_where_it_is(settings):
    """Nothing goes to the outbox, where messages that cannot be sent are tried one by one."""
    settings.OUTBOX_INBOX = {"CONTEXTS": {"shop": {"source": "stream"}}}
    put(*steps(Noted, 3))
    with without(InboxMessage):
        try_often(relay)
    assert (OutboxMessage.objects.count(), len(resting(Queue.OUTBOX))) == (0, 1)
    back()
    assert entries() == [1, 2, 3]


# The receiver


def test_a_receiver_without_its_table_backs_off_and_drops_nothing(settings):
    """What was received is acknowledged when it is stored."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": "memory://"}}
    deliver(*steps(Sold, 2))
    with without(InboxMessage):
        try_often(receive)
        assert "inboxmessage" in resting(Queue.INTAKE, "depot")[0].error
    back(receive)
    assert InboxMessage.objects.filter(context="depot").count() == 2
    assert resting(Queue.INTAKE, "depot") == []


# The dispatcher


def recording_more(_):
    """Record another event: a part for a handler."""
    record(Noted(order="z", number=9))


@each_way
@pytest.mark.parametrize("after_a_crash", [False, True])
@pytest.mark.parametrize("part", [recording_more, writing_in_vain()], ids=["table", "read-only"])
def test_an_outage_within_a_handler_is_no_attempt_of_its_message(
    one, consumer, event, after_a_crash, part
):
    """The context's own database takes nothing, whichever statement has met it."""
    deliver(*steps(event, 2))
    if after_a_crash:
        leave_token(Queue.INBOX)
    refused = without(OutboxMessage) if part is recording_more else nullcontext()
    with refused, playing(**{consumer: part}):
        try_often(dispatch)
    assert (entries(consumer), attempts()) == ([], 0)
    assert set(delivery_states(consumer)) == {"ready"}
    assert [each.outages for each in resting(Queue.INBOX)] == [TRIES]
    back(dispatch)
    assert entries(consumer) == [1, 2]


def catching(*_):
    """Go on after an outage, in a transaction that cannot be committed: a part for a handler."""
    with suppress(DatabaseError), transaction.atomic(savepoint=False):
        writing_in_vain()()


def test_an_outage_that_a_handler_catches_is_no_attempt_either(alone):
    """Without a savepoint its transaction cannot be committed, and that is not the handler's fault."""
    deliver(*steps(Noted, 1))
    with playing(note=catching):
        try_often(dispatch)
    assert (entries(), attempts()) == ([], 0)
    back(dispatch)
    assert entries() == [1]


@each_way
@pytest.mark.parametrize("part", [misspelling, writing_in_vain("other")], ids=["table", "database"])
def test_what_a_handler_meets_elsewhere_is_an_attempt_of_its_message(alone, consumer, event, part):
    """A table of its own, or another database than the context's: other consumers do without."""
    deliver(*steps(event, 1))
    with playing(**{consumer: part}):
        dispatch()
    assert (delivery(consumer).state, delivery(consumer).attempts) == ("dead", 1)
    assert resting(Queue.INBOX) == []


def test_a_translation_that_cannot_be_stored_is_no_attempt(alone):
    """The translator did its work; the outbox is away."""
    deliver(*steps(Checked, 2))
    with without(OutboxMessage):
        try_often(dispatch)
    assert (attempts(), states(Delivery)) == (0, ["ready", "ready"])
    back()
    assert states(Delivery, context="shop") == ["done", "done"]


def test_a_process_without_its_table_takes_its_step_later(yarded):
    """Nothing was wrong with the event."""
    put(Begun(order="a", number=1))
    relay("yard")
    with without(ProcessState):
        try_often(partial(dispatch, "yard"))
    assert attempts() == 0
    back(partial(dispatch, "yard"))
    assert ProcessState.objects.get().key == "a"


# Projections


@pytest.mark.catch_up
def test_a_stream_that_cannot_be_read_is_not_blamed_on_an_event(boarded):
    """The read model backs off with the reason, and goes on when the table is there."""
    board = get_context("board")
    put(Scored(player="ann", points=5), stream="ann")
    update_projections(board)
    put(Scored(player="ann", points=7), stream="ann")
    with without(StoredEvent), heard(signals.projection_failed) as told:
        update_projections(board, only=["high_score"])
        row = Checkpoint.objects.get(context="board", subscription="high_score")
    assert ("storedevent" in row.error, "of the stream" in row.error) == (True, False)
    assert (row.failures, len(told)) == (1, 1)
    Checkpoint.objects.update(retry_at=None)
    update_projections(board)
    assert HighScore.objects.get().points >= 7


@pytest.mark.catch_up
def test_an_outage_within_a_projection_is_not_blamed_on_its_event(boarded):
    """The context's own database takes nothing, and each event would meet that."""
    put(Scored(player="ann", points=5), stream="ann")
    with playing(add=writing_in_vain()):
        update_projections(get_context("board"), only=["high_score"])
    error = Checkpoint.objects.get(context="board", subscription="high_score").error
    assert ("of the stream" in error, str(read_only_error(connection)) in error) == (False, True)


@pytest.mark.catch_up
def test_a_read_model_without_its_table_fails_on_an_event(boarded):
    """Its table is its own affair: the event is named."""
    put(Scored(player="ann", points=5), stream="ann")
    with without(HighScore):
        update_projections(get_context("board"), only=["high_score"])
        row = Checkpoint.objects.get(context="board", subscription="high_score")
    assert "event 1 of the stream 'ann'" in row.error


# Options that our SQL depends on


@contextmanager
def sql_mode(mode):
    """Set the mode of this session within the block."""
    with connection.cursor() as cursor:
        cursor.execute("SET @before = @@sql_mode, SESSION sql_mode = %s", [mode])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_mode = @before")


@pytest.mark.mariadb
def test_sql_that_the_server_reads_in_another_way_is_an_outage():
    """In the mode of Oracle our own statements are wrong, and the message is not."""
    put(*steps(Noted, 2), *steps(Counted, 1), *steps(Listed, 1))
    with sql_mode("ORACLE"):
        try_often(relay)
    assert (set(states()), attempts(OutboxMessage)) == ({"pending"}, 0)
    assert "1064" in resting(Queue.OUTBOX)[0].error
    back()
    assert (entries(), entries("count"), entries("enlist")) == ([1, 2], [1], [1])


@pytest.mark.mariadb
@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("SET NAMES latin1", ["outbox_inbox.E021"]),
        ("SET SESSION sql_mode = 'ORACLE'", ["outbox_inbox.E022"]),
        ("SELECT 1", []),
    ],
)
def test_what_the_server_decides_is_asked_for_with_the_database(statement, found):
    """``check --database``: a file of options, or the server, may say what OPTIONS do not."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
    try:
        assert [each.id for each in check_session(["default"])] == found
    finally:
        connection.close()
