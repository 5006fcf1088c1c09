"""The long-running process as operators have it: what it prints, and what a signal does."""

import signal
from time import monotonic

import pytest

from outbox_inbox.operations.running import Interrupt
from tests.acceptance.conftest import new_store, processes  # noqa: F401  fixtures
from tests.acceptance.orders import write_steps
from tests.support.movers import PATIENCE, Worker, eventually


def started(processes, *arguments):  # noqa: F811
    """Start the command, and wait until it runs."""
    process = processes.start("manage.py", "run_contexts", *arguments, PYTHONUNBUFFERED="1")
    assert process.stdout.readline().startswith("Running depot, ordering, shipping, shop")
    return process


def handling(processes, seconds):  # noqa: F811
    """Start the command with messages to handle; return when it is in a handler that takes so long."""
    processes.succeed(*write_steps(2, 2))
    fault = f"dispatch.before_handler:sleep={seconds}@1"
    process = processes.start("manage.py", "run_contexts", faults=fault, PYTHONUNBUFFERED="1")
    process.stdout.readline()
    eventually(lambda: runs(processes), "it works")
    return process


def runs(processes):  # noqa: F811
    """Return the partitions of inboxes that a worker owns."""
    return processes.store.query(
        "SELECT 1 FROM outbox_inbox_partition WHERE run IS NOT NULL AND queue = 'inbox'"
    )


def test_it_says_what_is_wrong_with_a_transport(processes):  # noqa: F811
    """It works all the same, with whatever the server of the transport lacks."""
    process = processes.start("manage.py", "run_contexts", TRANSPORT_URL="redis://127.0.0.1:1/0")
    line = next(line for line in process.stdout if line.startswith("Transport "))
    assert line.startswith("Transport 'default': Redis at 127.0.0.1:1")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0(processes, number):  # noqa: F811
    """A deployment stops it so, also while it idles."""
    process = started(processes, "--interval", "60")
    process.send_signal(number)
    assert process.wait(PATIENCE) == 0
    assert "Stopped; the current batch is finished." in process.stdout.read()


def test_a_signal_lets_it_finish_what_it_is_doing(processes):  # noqa: F811
    """The handler that is under way ends, its effects are committed, and no other one begins."""
    process = handling(processes, 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert runs(processes) == []


def test_a_second_signal_ends_it_at_once(processes):  # noqa: F811
    """An operator who cannot wait for a handler that hangs loses nothing but its attempt."""
    process = handling(processes, 60)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) in {-signal.SIGINT, -signal.SIGTERM}


def test_a_pause_ends_as_soon_as_a_signal_comes():
    """An idle process stops without the rest of its pause."""
    begin = monotonic()
    with Interrupt().installed() as stop:
        signal.raise_signal(signal.SIGTERM)
        stop.wait(30)
        assert stop()
    assert monotonic() - begin < 5


def test_signals_are_given_back():
    """After the block they mean what they meant before."""
    before = signal.getsignal(signal.SIGTERM)
    with Interrupt().installed():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_outside_the_main_thread_signals_are_left_alone():
    """A drain may be called from anywhere."""

    def ask():
        with Interrupt().installed() as stop:
            return stop()

    with Worker() as worker:
        assert worker.do(ask) is False
