"""Many workers at once, with everything going wrong: nothing lost, doubled or out of order."""

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from random import Random
from unittest.mock import patch

import pytest
from django.db import connection, transaction

from outbox_inbox.conf import faults
from outbox_inbox.exceptions import MessageRefused, TransportUnavailable
from outbox_inbox.models import Delivery, OutboxMessage
from outbox_inbox.queues import run, statements
from outbox_inbox.transports import Published
from tests.shop.events import Checked, Counted, Listed, Noted
from tests.shop.models import Entry
from tests.support.movers import (
    PATIENCE,
    Broken,
    Crash,
    Worker,
    dispatch,
    entries,
    picks,
    put,
    relay,
    together,
)
from tests.support.script import playing
from tests.support.wire import SHAKY

pytestmark = pytest.mark.usefixtures("committed")

SEEDS = [1, 2, 3]
ORDERS = ["a", "b", "c"]
LAST = 8
QUICK = {
    "BACKOFF": {"first": timedelta(milliseconds=1), "maximum": timedelta(milliseconds=5)},
    "MAX_ATTEMPTS": 10_000,
    "BATCH_SIZE": 5,
}
EVENTS = {Noted: "note", Counted: "count", Listed: "enlist", Checked: None}


class Chance:
    """A die that several threads may throw; a failing test names its seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._lock = threading.Lock()

    def strikes(self, probability: float) -> bool:
        """Return whether something happens that happens now and then."""
        with self._lock:
            return self._random.random() < probability


def produce(order: str) -> Callable[[], None]:
    """Return a producer of one key's events, each committed before the next is recorded."""

    def work() -> None:
        for number in range(1, LAST + 1):
            put(*(event(order=order, number=number) for event in EVENTS))

    return work


def is_all_done() -> bool:
    """Return whether everything that will be recorded has been handled everywhere."""
    recorded = OutboxMessage.objects.filter(type="shop.Noted").count() == LAST * len(ORDERS)
    open_messages = OutboxMessage.objects.exclude(state="sent").exists()
    return recorded and not open_messages and not Delivery.objects.exclude(state="done").exists()


def consume() -> None:
    """Relay and dispatch until all is done, whatever happens meanwhile."""
    stop = threading.Event()
    timer = threading.Timer(PATIENCE * 2, stop.set)
    timer.start()
    try:
        while not is_all_done():
            assert not stop.is_set(), "it does not come to an end"
            for mover, label in (relay, "shop"), (dispatch, "shop"), (dispatch, "depot"):
                try:
                    mover(label)
                except Crash:
                    connection.close()
    finally:
        timer.cancel()


def assert_all_is_right(seed: int) -> None:
    """Each consumer has handled each step of each order once, and in order."""
    wanted = [*range(1, LAST + 1)]
    for order in ORDERS:
        for consumer in filter(None, EVENTS.values()):
            assert entries(consumer, order) == wanted, (seed, consumer, order)
        assert (picks("pick", order), picks("watch", order)) == (wanted, wanted), (seed, order)


@pytest.mark.parametrize("seed", SEEDS)
def test_workers_at_once_with_failing_consumers_keep_every_promise(settings, seed):
    """Three workers, three producers, consumers and a transport that fail at random."""
    settings.OUTBOX_INBOX = {**SHAKY, **QUICK}
    chance = Chance(seed)

    def fail(*_):
        if chance.strikes(0.1):
            raise Broken

    with playing(note=fail, count=fail, enlist=fail, watch=fail, pick=fail, shake=shaking(chance)):
        together(*map(produce, ORDERS), consume, consume, consume)
    assert_all_is_right(seed)


def shaking(chance: Chance) -> Callable[..., Published]:
    """Return a part for a transport that refuses, breaks and goes away now and then."""

    def shake(messages):
        if chance.strikes(0.05):
            raise TransportUnavailable("for a moment")
        if chance.strikes(0.05):
            raise Broken
        refused = {message.row for message in messages if chance.strikes(0.05)}
        keys = {message.key for message in messages if message.row in refused}
        sent = [message.row for message in messages if message.key not in keys]
        return Published(sent=sent, refused=dict.fromkeys(refused, MessageRefused("not now")))

    return shake


@pytest.mark.parametrize("seed", SEEDS)
def test_workers_at_once_that_crash_keep_every_promise(settings, seed):
    """They crash anywhere, and are taken for crashed while they are only slow."""
    settings.OUTBOX_INBOX = QUICK
    chance = Chance(seed)

    def point(name):
        if not name.startswith("record.") and chance.strikes(0.01):
            raise Crash

    with ExitStack() as stack:
        stack.enter_context(patch.object(faults, "point", point))
        stack.enter_context(patch.object(run, "_end_run", lambda run: None))
        stack.enter_context(patch.object(statements, "SILENCE", 0.005))
        together(*map(produce, ORDERS), consume, consume, consume)
    assert_all_is_right(seed)


def test_workers_at_once_count_no_attempts_that_nobody_made(settings):
    """They leave each other's partitions alone, in a transaction and between two."""
    settings.OUTBOX_INBOX = QUICK
    with patch.object(statements, "SILENCE", 60):
        together(*map(produce, ORDERS), consume, consume, consume)
    assert_all_is_right(0)
    assert set(Delivery.objects.values_list("attempts", flat=True)) == {0}
    assert set(OutboxMessage.objects.values_list("attempts", flat=True)) == {0}


@pytest.mark.server
def test_messages_that_commit_late_are_not_lost_among_many(settings):
    """Rule O2: whatever order ids are committed in, while relays are at work."""
    settings.OUTBOX_INBOX = QUICK
    with ExitStack() as stack:
        writers = [stack.enter_context(Worker()) for _ in range(4)]
        blocks = [transaction.atomic() for _ in writers]
        for number, (writer, block) in enumerate(zip(writers, blocks, strict=True)):
            writer.do(block.__enter__)
            writer.do(put, Noted(order=f"late {number}", number=1))
        for number in range(10):
            put(Noted(order="a", number=number))
            relay()
            if number in {2, 5, 7, 8}:
                writers.pop().do(blocks.pop().__exit__, None, None, None)
        relay()
    dispatch()
    assert Counter(Entry.objects.values_list("order", flat=True)) == {
        "a": 10, "late 0": 1, "late 1": 1, "late 2": 1, "late 3": 1,
    }  # fmt: skip
