"""What threads of one process share, and what each of them has for itself."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.signals import setting_changed

from outbox_inbox.conf import settings
from outbox_inbox.contexts import contexts
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
