"""NOTIFY and LISTEN on PostgreSQL: after the commit, gathered, and harmless when they fail."""

import os
import socket
import threading
from datetime import timedelta
from time import monotonic

import psycopg
import pytest
from django.db import connection, connections, transaction

from outbox_inbox import record
from outbox_inbox.conf.backoff import Backoff
from outbox_inbox.contexts import get_context
from outbox_inbox.operations.running import WakeUps
from outbox_inbox.queues import wakeup
from outbox_inbox.queues.wakeup import connection as connecting
from outbox_inbox.queues.wakeup import listener, notifier
from outbox_inbox.queues.wakeup.listener import Listener
from outbox_inbox.testing import drain
from tests.acceptance.conftest import Processes, new_store, processes  # noqa: F401  fixtures
from tests.shop.events import Noted
from tests.support.movers import PATIENCE, Worker, eventually, put, steps

pytestmark = [pytest.mark.postgres, pytest.mark.usefixtures("committed")]


@pytest.fixture(autouse=True)
def notify_wakes_up(settings, committed):
    """The setting that asks for it; no sender is left of an earlier test, none for a later one."""
    settings.OUTBOX_INBOX = {"WAKE_UP": "notify"}
    yield
    notifier.end_senders()


class Ear:
    """A session that listens."""

    def __init__(self, session):
        self.session = session
        session.execute(f"LISTEN {notifier.CHANNEL}")

    def heard(self, seconds=PATIENCE):
        """Return the next notification; None: there was none."""
        return next(self.session.notifies(timeout=seconds, stop_after=1), None)

    def all_heard(self):
        """Return what was notified, up to a mark that is set now."""
        self.session.execute("SELECT pg_notify(%s, 'mark')", [notifier.CHANNEL])
        found = []
        for note in self.session.notifies(timeout=PATIENCE):
            if note.payload == "mark":
                break
            found.append(note.payload)
        return found


@pytest.fixture
def ear():
    """A session that listens to the default database."""
    with connecting.connect("default") as session:
        yield Ear(session)


def terminate(pid):
    """End a session of the server, as a restart does."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


# Sending


def test_a_commit_is_notified(ear):
    """What was recorded is announced, with the label of its context and the work."""
    put(*steps(Noted, 1))
    assert ear.heard().payload == "shop relay"


def test_nothing_is_notified_before_the_commit_or_after_a_rollback(ear):
    """Who was woken up too early would find nothing, and sleep on."""
    with transaction.atomic():
        record(*steps(Noted, 1))
        assert ear.all_heard() == []
        transaction.set_rollback(True)
    notifier.end_senders()
    assert ear.all_heard() == []


def test_it_is_sent_by_another_session_than_djangos(ear):
    """A NOTIFY in the writing session would have every commit wait for a lock of the server."""
    put(*steps(Noted, 1))
    sender = ear.heard().pid
    assert sender != connection.connection.info.backend_pid
    assert notifier.own_pids() == {sender}


def test_nudges_that_come_together_go_out_together(ear, monkeypatch):
    """A thousand commits a second are a hundred statements at most, each with what came since."""
    statements, sent, go_on = [], threading.Event(), threading.Event()
    send = notifier._notify

    def slowly(session, nudges):
        statements.append(nudges)
        send(session, nudges)
        sent.set()
        assert go_on.wait(PATIENCE)

    monkeypatch.setattr(notifier, "_notify", slowly)
    put(*steps(Noted, 1))
    assert sent.wait(PATIENCE)
    for number in range(2, 40):
        put(*steps(Noted, [number]))
    wakeup.nudge(get_context("depot"), "dispatch")
    go_on.set()
    notifier.end_senders()

    assert statements == [["shop relay"], ["depot dispatch", "shop relay"]]
    assert ear.all_heard() == ["shop relay", "depot dispatch", "shop relay"]


def test_between_two_statements_there_is_a_moment(monkeypatch):
    """However fast the server answers, a busy process does not send more than that."""
    paused = []
    monkeypatch.setattr(notifier.time, "sleep", paused.append)
    put(*steps(Noted, 1))
    eventually(lambda: paused == [notifier.WINDOW], "it pauses")


def test_each_database_is_notified_of_its_own_contexts(settings):
    """Who works for a context listens where its queues are."""
    settings.OUTBOX_INBOX = {"WAKE_UP": "notify", "CONTEXTS": {"shop": {"database": "other"}}}
    with connecting.connect("other") as session:
        ear = Ear(session)
        put(*steps(Noted, 1))
        assert ear.heard().payload == "shop relay"


def test_a_session_that_was_cut_is_replaced(ear):
    """The server was restarted since the last nudge: the next one arrives all the same."""
    put(*steps(Noted, 1))
    terminate(ear.heard().pid)
    put(*steps(Noted, [2]))
    assert ear.heard().payload == "shop relay"
    assert wakeup.failures() == 0


def test_a_session_that_nobody_needs_is_closed(ear, monkeypatch):
    """A process that has not recorded for long holds no place at the server; it gets one again."""
    monkeypatch.setattr(notifier, "_IDLE", 0.01)
    put(*steps(Noted, 1))
    first = ear.heard().pid
    eventually(lambda: notifier.own_pids() == {None}, "the session is closed")
    put(*steps(Noted, [2]))
    assert ear.heard().pid != first


@pytest.fixture
def elsewhere(monkeypatch):
    """A function that has new connections go to another port; Django's own are there already."""
    for each in connections.all():
        each.ensure_connection()

    def use(port):
        for each in connections.all():
            monkeypatch.setitem(each.settings_dict, "HOST", "127.0.0.1")
            monkeypatch.setitem(each.settings_dict, "PORT", str(port))

    return use


@pytest.fixture
def free_port():
    """A port at which no server answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_server_that_is_down_does_no_harm(elsewhere, free_port, caplog):
    """The use case is committed, the failure counted and told in one line."""
    elsewhere(free_port)
    put(*steps(Noted, 1))
    eventually(lambda: wakeup.failures() == 1, "the failure is counted")
    (line,) = [
        each.getMessage() for each in caplog.records if each.name == "outbox_inbox.queues.wakeup"
    ]
    assert line.startswith("cannot wake up a worker to shop relay: OperationalError")
    put(*steps(Noted, [2]))
    eventually(lambda: wakeup.failures() == 2, "it is left alone for a while")
    assert drain().done == 6


def test_a_server_that_does_not_answer_holds_nobody_up(elsewhere):
    """Only the thread of the sender waits for it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        elsewhere(silent.getsockname()[1])
        begin = monotonic()
        for number in range(1, 11):
            put(*steps(Noted, [number]))
        assert monotonic() - begin < 5
        silent.close()
        notifier.end_senders()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_sends_by_a_session_of_its_own(ear):
    """Two processes that write to one socket would break the session of both."""
    put(*steps(Noted, 1))
    parent = ear.heard().pid
    child = os.fork()
    if child == 0:
        notifier.send_nudge("default", "shop", "relay")
        notifier.end_senders()
        os._exit(0)
    os.waitpid(child, 0)
    assert ear.heard().pid != parent
    put(*steps(Noted, [2]))
    assert ear.heard().pid == parent


def test_a_process_that_ends_sends_its_last_nudge(processes):  # noqa: F811
    """A command that records and exits does not take it along."""
    with psycopg.connect(processes.store.url, autocommit=True) as session:
        ear = Ear(session)
        processes.succeed("-m", "tests.acceptance.steps", "1", "1", OUTBOX_INBOX_WAKE_UP="notify")
        assert ear.heard().payload == "shop relay"


# Listening


@pytest.fixture
def listen():
    """A listener for the shop, which has begun to listen, and its bell."""
    bell = threading.Semaphore(0)
    found = Listener("default", {"shop"}, bell.release)
    found.start()
    assert rung(bell), "it rings when it begins to listen"
    yield found, bell
    found.stop()


def rung(bell, seconds=PATIENCE):
    """Wait until it has rung once more."""
    return bell.acquire(timeout=seconds)


def say(nudge):
    """Notify from another process."""
    with connecting.connect("default") as session:
        session.execute("SELECT pg_notify(%s, %s)", [notifier.CHANNEL, nudge])


def listeners():
    """Return the server processes of the sessions that listen."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            f" AND query = 'LISTEN {notifier.CHANNEL}'"
        )
        return [pid for (pid,) in cursor.fetchall()]


def test_a_listener_rings_for_its_contexts(listen):
    """What others have to do is none of its business."""
    found, bell = listen
    for nudge in ("depot relay", "nonsense", "", "shop dispatch"):
        say(nudge)
    assert rung(bell)
    found.stop()
    assert not bell.acquire(blocking=False)


def test_a_listener_does_not_hear_its_own_process(listen, ear):
    """A nudge within a process rings a bell there; the way over the server would ring it twice."""
    found, bell = listen
    put(*steps(Noted, 1))
    assert ear.heard()
    say("shop relay")
    assert rung(bell)
    found.stop()
    assert not bell.acquire(blocking=False)


def test_a_listener_that_was_cut_off_listens_again(listen, monkeypatch, caplog):
    """It rings when it is back, for what was committed meanwhile."""
    monkeypatch.setattr(listener, "RECONNECT", Backoff(timedelta(milliseconds=1)))
    found, bell = listen
    (pid,) = listeners()
    terminate(pid)
    assert rung(bell)
    assert found.connected
    say("shop relay")
    assert rung(bell)
    assert "cannot listen to the database 'default'" in caplog.text


def test_while_the_server_is_out_of_reach_work_is_found_by_polling(elsewhere, free_port, caplog):
    """It does not count as listening, and does not try all the time."""
    elsewhere(free_port)
    with WakeUps([get_context("shop")], lambda: None) as wake_ups:
        eventually(lambda: "cannot listen to the database" in caplog.text, "it has tried")
        assert not wake_ups.complete()


def test_the_end_of_a_listener_does_not_wait_for_a_notification(listen):
    """A process that is told to stop stops."""
    found, _ = listen
    begin = monotonic()
    found.stop()
    assert monotonic() - begin < 5
    eventually(lambda: listeners() == [], "its session is closed")


def test_a_nudge_within_the_process_rings_at_once(elsewhere, free_port):
    """It takes no way over a server, so it works while that is out of reach."""
    bell = threading.Semaphore(0)
    with Worker() as other:
        other.do(lambda: connection.ensure_connection())  # noqa: PLW0108  each thread has its own
        elsewhere(free_port)
        with WakeUps([get_context("shop")], bell.release):
            other.do(put, *steps(Noted, 1))
            assert rung(bell)


def test_the_loops_own_nudges_do_not_ring(elsewhere, free_port):
    """After something moved, the next round follows anyway."""
    elsewhere(free_port)
    bell = threading.Semaphore(0)
    with WakeUps([get_context("shop")], bell.release):
        put(*steps(Noted, 1))
        assert not bell.acquire(blocking=False)
