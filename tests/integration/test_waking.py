"""What ends the pauses of the long-running process, and what happens when it fails."""

import select
import signal
import threading
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

import pytest
from django.utils import timezone

from outbox_inbox.conf.backoff import Backoff
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.operations.running import Interrupt, WakeUps, run
from outbox_inbox.transports import transport
from tests.acceptance.conftest import Processes, new_store, processes  # noqa: F401  fixtures
from tests.shop.contracts import Sold
from tests.shop.events import Checked, Noted
from tests.support.movers import (
    PATIENCE,
    Worker,
    come_due,
    entries,
    eventually,
    picks,
    put,
    relay,
    steps,
)
from tests.support.script import playing
from tests.support.wire import WAITING, WIRE

committed = pytest.mark.usefixtures("committed")
notified = {"OUTBOX_INBOX_WAKE_UP": "notify"}


@contextmanager
def running(*labels):
    """Run contexts in a thread whose pauses only a wake-up ends, until the block is left."""
    owners = [get_context(label) for label in labels]
    end, paused = threading.Event(), threading.Event()

    def loop():
        with Interrupt().installed() as interrupt, WakeUps(owners, interrupt.wake) as wake_ups:

            def wait(seconds):
                paused.set()
                interrupt.wait(PATIENCE * 10)

            wakers.append(interrupt.wake)
            run(owners, stop=end.is_set, wait=wait, announced=wake_ups.complete)

    wakers = []
    with Worker() as worker:
        future = worker.start(loop)
        assert paused.wait(PATIENCE)
        try:
            yield
        finally:
            end.set()
            wakers[0]()
            future.result(PATIENCE)


# Pauses


LONG = PATIENCE / 3  # seconds, which a pause lasts if nothing ends it


def pause(interrupt):
    """Pause; return whether something has ended it."""
    begin = monotonic()
    interrupt.wait(LONG)
    return monotonic() - begin < LONG


def test_a_wake_up_ends_a_pause():
    """Also one that came before it."""
    with Interrupt().installed() as interrupt:
        interrupt.wake()
        assert pause(interrupt)


def test_many_wake_ups_end_one_pause():
    """They are not saved up: the look after them has found everything."""
    with Interrupt().installed() as interrupt:
        for _ in range(100_000):
            interrupt.wake()
        assert pause(interrupt)
        assert select.select([interrupt._mine], [], [], 0)[0] == []


def test_a_wake_up_after_the_end_does_no_harm():
    """A thread may be late."""
    with Interrupt().installed() as interrupt:
        pass
    interrupt.wake()


# Transports


@committed
def test_a_message_that_arrives_ends_the_pause(settings):
    """With memory://, whose reader waits for what is appended."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": "memory://"}}
    with running("depot"):
        put(Checked(order="a", number=1))
        with running("shop"):
            eventually(lambda: picks() == [1], "the depot has handled it")


@pytest.fixture
def rings():
    """A bell, and how often it has rung."""
    return threading.Semaphore(0)


def awaited(settings, part, rings):
    """Return the wake-ups of the depot with a transport that waits as a part says."""
    settings.OUTBOX_INBOX = WAITING
    return playing(wait=part), WakeUps([get_context("depot")], rings.release)


def test_a_transport_is_asked_for_the_contexts_that_receive_by_it(settings, rings):
    """One thread a transport, with all of them."""
    settings.OUTBOX_INBOX = WAITING
    asked = []
    part = playing(wait=lambda contexts, seconds: asked.append(contexts) or True)
    with part, WakeUps([get_context("shop"), get_context("depot")], rings.release):
        assert rings.acquire(timeout=PATIENCE)
    assert asked[0] == [get_context("depot")]


def test_a_transport_that_has_nothing_ends_no_pause(settings, rings):
    """It is asked again."""
    asked = threading.Semaphore(0)
    part, wake_ups = awaited(settings, lambda *_: asked.release(), rings)
    with part, wake_ups:
        for _ in range(3):
            assert asked.acquire(timeout=PATIENCE)
    assert not rings.acquire(blocking=False)


def test_a_transport_that_fails_is_asked_again(settings, rings, monkeypatch, caplog):
    """Meanwhile it does not count as being listened to."""
    monkeypatch.setattr(
        "outbox_inbox.operations.running.wake_ups.RECONNECT", Backoff(timedelta(milliseconds=1))
    )
    failed, go_on = threading.Event(), threading.Event()

    def wait(contexts, seconds):
        if not failed.is_set():
            failed.set()
            raise TransportUnavailable("no route")
        assert go_on.wait(PATIENCE)
        return True

    part, wake_ups = awaited(settings, wait, rings)
    with part, wake_ups:
        assert failed.wait(PATIENCE)
        assert not wake_ups.complete()
        go_on.set()
        assert rings.acquire(timeout=PATIENCE)

    assert "cannot wait for messages at Waiting: TransportUnavailable: no route" in caplog.text


def test_nobody_waits_for_a_transport_that_blocks(settings, rings):
    """A process that is told to stop stops, whatever the transport is at."""
    blocked, go_on = threading.Event(), threading.Event()

    def wait(contexts, seconds):
        blocked.set()
        go_on.wait(PATIENCE)
        return True

    part, wake_ups = awaited(settings, wait, rings)
    with part:
        with wake_ups:
            assert blocked.wait(PATIENCE)
        go_on.set()
    assert not rings.acquire(timeout=0.05)


# Whether polling is but the floor


@pytest.mark.sqlite
def test_without_notifications_one_has_to_look(settings):
    """SQLite cannot notify."""
    settings.OUTBOX_INBOX = {"WAKE_UP": "notify"}
    with WakeUps([get_context("shop")], lambda: None) as wake_ups:
        assert not wake_ups.complete()


@pytest.mark.postgres
@committed
@pytest.mark.parametrize(
    ("transports", "complete"),
    [({}, True), ({"TRANSPORTS": {"default": "memory://"}}, True), (WIRE, False)],
)
def test_with_all_sources_one_need_not_look(settings, transports, complete):
    """Notifications of the databases, and transports that wait or need no receiving."""
    settings.OUTBOX_INBOX = {"WAKE_UP": "notify", **transports}
    put(Checked(order="a", number=1))
    with (
        running("shop"),
        WakeUps([get_context("shop"), get_context("depot")], lambda: None) as wake_ups,
    ):
        if complete:
            eventually(wake_ups.complete, "everything is listened for")
        eventually(lambda: all(each.connected for each in wake_ups._sources), "all are connected")
        assert wake_ups.complete() is complete


@pytest.mark.postgres
def test_without_the_setting_one_has_to_look(settings):
    """No nudge comes."""
    settings.OUTBOX_INBOX = {}
    with WakeUps([get_context("shop")], lambda: None) as wake_ups:
        assert wake_ups._sources == []
        assert not wake_ups.complete()


# Real processes


def start(processes, *labels, **settings):  # noqa: F811
    """Start the command for contexts, with pauses longer than any test; wait until it runs."""
    chosen = [word for label in labels for word in ("--context", label)]
    process = processes.start(
        *("manage.py", "run_contexts", "--interval", "600", *chosen),
        **{"PYTHONUNBUFFERED": "1", **notified, **settings},
    )
    assert process.stdout.readline().startswith("Running ")
    return process


def sleep(processes, count):  # noqa: F811
    """Wait until so many processes listen, and do nothing."""
    sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE {}"
    listening = sql.format("'LISTEN %'")
    return eventually(
        lambda: len(found := processes.store.query(listening)) == count and found, "all listen"
    )


def record_steps(processes):  # noqa: F811
    """Record a step in a process that nudges; wait until it has been handled everywhere."""
    processes.succeed("-m", "tests.acceptance.steps", "1", "1", **notified)
    eventually(lambda: len(processes.store.ledger()) == 5, "all consumers had it")


@pytest.mark.postgres
@pytest.mark.parametrize("deployed", [[()], [("shop",), ("depot",)]], ids=["one", "two"])
def test_a_commit_wakes_up_an_idle_process(processes, deployed):  # noqa: F811
    """Long before the next look; with local:// the relay of one wakes up the dispatcher of the other."""
    for labels in deployed:
        start(processes, *labels)
    sleep(processes, len(deployed))
    record_steps(processes)


@pytest.mark.postgres
def test_a_process_whose_listener_was_cut_off_goes_on(processes):  # noqa: F811
    """It listens again by itself."""
    process = start(processes)
    ((pid,),) = sleep(processes, 1)
    processes.store.query(f"SELECT pg_terminate_backend({pid}, 5000)")
    sleep(processes, 1)
    record_steps(processes)
    assert process.poll() is None


@pytest.mark.postgres
def test_a_signal_ends_a_process_that_listens(processes):  # noqa: F811
    """At once, and well."""
    process = start(processes)
    sleep(processes, 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert "Stopped; the current batch is finished." in process.stdout.read()


@committed
def test_what_comes_due_needs_no_wake_up():
    """The look after the longest pause finds it."""
    waited = []

    def wait(seconds):
        waited.append(seconds)
        if len(waited) == 2:
            come_due()

    put(*steps(Noted, 1), at=timezone.now() + timedelta(hours=1))
    run([get_context("shop")], stop=lambda: len(waited) == 3, wait=wait, announced=lambda: True)

    assert entries() == [1]


@committed
def test_what_has_arrived_counts_once(settings):
    """A message that may not be received now does not keep a process busy."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": "memory://"}}
    log, depot = transport("default"), [get_context("depot")]
    assert not log.wait_for_messages(depot, 0)
    put(Sold(order="a", number=1))
    relay("shop")
    assert log.wait_for_messages(depot, 0)
    assert not log.wait_for_messages(depot, 0)


@committed
def test_each_thread_that_waits_is_told(settings):
    """Two loops in one process do not take each other's wake-ups."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": "memory://"}}
    log, depot = transport("default"), [get_context("depot")]
    with Worker() as one, Worker() as two:
        waiting = [each.start(log.wait_for_messages, depot, PATIENCE) for each in (one, two)]
        put(Sold(order="a", number=1))
        relay("shop")
        assert [each.result(PATIENCE) for each in waiting] == [True, True]
