"""A server that can be read and not written is an outage, and not a place without work."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from time import monotonic

import pytest
from django.db import connection, connections, transaction

from outbox_inbox import signals
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import ReadOnlyDatabase
from outbox_inbox.operations import queue_stats
from outbox_inbox.operations.running import run
from outbox_inbox.queues import interests, servers
from outbox_inbox.queues.statements.dialects import CLASSES, dialect
from outbox_inbox.queues.wakeup import listener, notifier
from outbox_inbox.queues.wakeup.listener import Listener
from tests.shop.events import Noted
from tests.support.commands import Result
from tests.support.movers import (
    Worker,
    dispatch,
    entries,
    eventually,
    heard,
    put,
    relay,
    steps,
)

pytestmark = pytest.mark.usefixtures("committed")

TOLD = "the database 'default'"


@pytest.fixture(autouse=True)
def told_anew(monkeypatch):
    """Forget which servers another test has announced."""
    monkeypatch.setattr(servers, "_refused", set())


@pytest.fixture
def read_only():
    """The server says that it refuses to write, until the fixture is called."""
    kind = CLASSES[connection.vendor]
    patch = pytest.MonkeyPatch()
    patch.setattr(kind, "read_only", "TRUE")
    patch.setattr(kind, "refuses_writes", lambda *_: True)
    yield patch.undo
    patch.undo()


@pytest.fixture
def clock(monkeypatch):
    """Takes seconds, by which the age of connections grows."""
    passed = [0.0]
    monkeypatch.setattr(servers, "monotonic", lambda: monotonic() + passed[0])

    def go_on(seconds):
        passed[0] += seconds

    return go_on


def run_once():
    """Run the shop until its first pause."""
    paused = []
    run([get_context("shop")], stop=lambda: bool(paused), wait=paused.append)


# Noticed


def test_the_server_of_the_tests_can_be_written():
    """The question is understood by each database."""
    assert not servers.is_read_only("default")


@pytest.mark.parametrize("mover", [relay, dispatch])
def test_a_mover_raises_where_nothing_is_due(read_only, mover):
    """It would otherwise say that there is nothing to do."""
    with pytest.raises(ReadOnlyDatabase, match=TOLD):
        mover()


def test_a_process_that_looks_at_no_partition_finds_it_out_as_well(monkeypatch, read_only):
    """A receiver asks its transport first: it does so when it confirms what it has."""
    monkeypatch.setattr(interests, "_confirmed", {})
    with pytest.raises(ReadOnlyDatabase):
        interests.confirm_interests("default")


def test_a_drain_ends_with_an_error(read_only):
    """Its exit code says that not everything was done."""
    result = Result("drain_outbox")
    assert (result.code, TOLD in result.error) == (1, True)


def test_a_runner_logs_an_outage_and_goes_on_after_it(read_only, caplog, monkeypatch):
    """As when the database cannot be reached."""
    put(*steps(Noted, 1))
    rounds = []

    def wait(_seconds):
        rounds.append(1)
        read_only()
        monkeypatch.setattr("outbox_inbox.queues.outages.monotonic", lambda: monotonic() + 60)

    with caplog.at_level("INFO", "outbox_inbox"):
        run([get_context("shop")], stop=lambda: len(rounds) > 1, wait=wait)
    assert entries() == [1]
    texts = [each.getMessage() for each in caplog.records]
    failed = [each for each in texts if each.startswith("cannot look into the database 'default'")]
    assert len(failed) == 1


def test_it_is_announced_once_for_each_context(read_only):
    """However often it is met, until the server can be written again."""
    with heard(signals.database_read_only) as told:
        for _ in range(3):
            with pytest.raises(ReadOnlyDatabase):
                relay()
        read_only()
        relay()
    contexts = [each["context"] for each in told]
    assert sorted(contexts) == sorted(set(contexts))
    assert {"shop", "depot"} <= set(contexts)
    assert {each["database"] for each in told} == {"default"}


@pytest.mark.postgres
def test_a_runner_on_the_wrong_server_connects_anew():
    """Its next connection leads to the server that can be written."""
    run_once()
    with Worker() as other:
        other.do(put, *steps(Noted, 1))
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    with pytest.raises(ReadOnlyDatabase):
        relay()
    run_once()
    assert entries() == [1]


@pytest.mark.sqlite
def test_a_file_that_is_opened_for_reading_refuses_writes(tmp_path):
    """No statement fails on it while nothing is due."""
    with closing(sqlite3.connect(tmp_path / "db")) as made:
        made.execute("CREATE TABLE outbox_inbox_partition (id, paused)")
    opened = connection.copy()
    opened.settings_dict["NAME"] = f"file:{tmp_path}/db?mode=ro"
    opened.settings_dict["OPTIONS"] = {"uri": True}
    with closing(opened):
        assert dialect(opened).refuses_writes(opened)


@pytest.mark.sqlite
def test_a_file_that_another_process_writes_to_is_not_read_only(tmp_path):
    """It is locked for a moment."""
    with closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as writer:
        writer.execute("CREATE TABLE outbox_inbox_partition (id, paused)")
        writer.execute("BEGIN IMMEDIATE")
        opened = connection.copy()
        opened.settings_dict["NAME"] = tmp_path / "db"
        opened.settings_dict["OPTIONS"] = {"timeout": 0}
        with closing(opened):
            assert not dialect(opened).refuses_writes(opened)


def test_the_statistics_say_it(read_only):
    """In the table and in the document, and with a limit by the exit code."""
    assert {each.read_only for each in queue_stats()} == {True}
    result = Result("queue_stats", "--fail-over", "dead=0")
    assert result.code == 3
    assert f"{TOLD} can be read, but not written" in result.out
    read_only()
    assert {each.read_only for each in queue_stats()} == {False}


# Connections by their age


@pytest.mark.server
@pytest.mark.parametrize(
    ("given", "seconds", "renewed"),
    [
        pytest.param(0, 299, False, id="young"),
        pytest.param(0, 301, True, id="old"),
        pytest.param(None, 301, True, id="kept-for-ever-by-requests"),
        pytest.param(3600, 301, False, id="with-a-longer-age"),
    ],
)
def test_connections_are_renewed_by_their_age(monkeypatch, clock, given, seconds, renewed):
    """The one before may lead to a server that is not the primary any more."""
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", given)
    run_once()
    first = connection.connection
    assert first is not None
    clock(seconds)
    run_once()
    run_once()
    assert (connection.connection is not first) == renewed
    connection.close()


@pytest.mark.server
def test_no_connection_is_closed_within_a_transaction(clock):
    """It would end it."""
    with transaction.atomic():
        servers.renew_connections()
        clock(1000)
        servers.renew_connections()
        assert not connections["default"].closed_in_transaction


@pytest.mark.postgres
def test_a_listener_renews_its_connection(monkeypatch):
    """From a server that is not the primary any more no notification comes."""
    monkeypatch.setattr(listener, "MAX_AGE", timedelta(milliseconds=20))
    opened = []
    connect = listener.connect

    def note(alias):
        opened.append(alias)
        return connect(alias)

    monkeypatch.setattr(listener, "connect", note)
    ear = Listener("default", {"shop"}, lambda: None)
    ear.start()
    try:
        eventually(lambda: len(opened) > 2, "other connections")
    finally:
        ear.stop()


@pytest.mark.postgres
def test_a_listener_does_not_listen_to_a_server_that_refuses_writes(read_only, caplog):
    """No process commits there."""
    with caplog.at_level("WARNING", "outbox_inbox"):
        ear = Listener("default", {"shop"}, lambda: None)
        ear.start()
        try:
            eventually(lambda: caplog.records, "an entry")
        finally:
            ear.stop()
    assert not ear.connected
    assert "can be read, but not written" in caplog.messages[0]


@pytest.mark.postgres
def test_a_sender_of_nudges_renews_its_connection(monkeypatch):
    """Its nudges would go to a server that is not the primary any more."""
    monkeypatch.setattr(notifier, "MAX_AGE", timedelta(0))
    sender = notifier._Sender("default")
    sender._notify(["shop relay"])
    first = sender.pid
    sender._notify(["shop relay"])
    second = sender.pid
    sender._close()
    assert first != second
