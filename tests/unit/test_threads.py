"""What threads of one process share, and what each of them has for itself."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest
from django.core.signals import setting_changed

from outbox_inbox import conf
from outbox_inbox.conf import settings
from outbox_inbox.contexts import contexts, registry
from outbox_inbox.transports import transport

THREADS = 6
REDIS = "redis://127.0.0.1:6379/15"


def begin_together(function: Callable[[], Any]) -> list[Any]:
    """Call a function in several threads at the same moment; return the results."""
    start = threading.Barrier(THREADS)

    def work(_: int) -> Any:
        start.wait()
        return function()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(THREADS)))


@pytest.fixture
def fresh(monkeypatch):
    """Return a function that makes this process as one that has just begun."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def forget():
        setting_changed.send(sender=None, setting="OUTBOX_INBOX", value=None, enter=False)

    yield forget
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("function", [contexts, settings])
def test_threads_that_begin_together_read_the_contexts_once(fresh, function):
    """A consumer of one reading would make events of the other's contexts."""
    for _ in range(20):
        fresh()
        assert len({id(each) for each in begin_together(function)}) == 1


@pytest.mark.parametrize(
    ("function", "module", "read"),
    [(settings, conf, "_read_settings"), (contexts, registry, "_read_state")],
)
def test_a_setting_that_changes_while_a_thread_reads_it_is_read_again(
    fresh, monkeypatch, function, module, read
):
    """The thread would store what it has read before the change, and all others would use it."""
    began, may_end, original = threading.Event(), threading.Event(), getattr(module, read)

    def read_slowly(*arguments: Any) -> Any:
        began.set()
        may_end.wait()
        return original(*arguments)

    fresh()
    monkeypatch.setattr(module, read, read_slowly)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(function)
        began.wait()
        change = pool.submit(fresh)
        wait([change], timeout=0.2)  # without a lock it is over by then
        may_end.set()
        change.result()
    assert function() is not first.result()


def test_threads_have_transports_of_their_own(settings):
    """The answers of a broker belong to the thread that has asked."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": REDIS}}
    kept = begin_together(lambda: transport("default"))
    assert len({id(each) for each in kept}) == THREADS


def test_a_thread_keeps_its_transport(settings):
    """A connection each time would be slow."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": REDIS}}
    assert transport("default") is transport("default")


@pytest.mark.parametrize("location", ["memory://", "local://"])
def test_a_transport_for_all_threads_is_one(settings, location):
    """What is in its memory is there for all of them."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": location}}
    kept = begin_together(lambda: transport("default"))
    assert len({id(each) for each in kept}) == 1
