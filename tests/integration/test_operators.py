"""Operators at work among workers: whatever they do meanwhile, nothing is lost, doubled or inverted."""

import random
import threading
from datetime import timedelta
from itertools import product

import pytest
from django.db import connections

from outbox_inbox import PermanentError, record
from outbox_inbox.contexts import get_context
from outbox_inbox.models import Delivery, OutboxMessage, Queue
from outbox_inbox.operations import (
    Selection,
    discard,
    pause,
    prune,
    queue_stats,
    repartition,
    resume,
    retry,
    table_locks,
)
from outbox_inbox.testing import advance
from tests.depot.events import Wanted
from tests.shop.contracts import Sold
from tests.shop.events import Checked, Counted, Listed, Noted
from tests.support.movers import (
    PATIENCE,
    Worker,
    delivery_states,
    dispatch,
    entries,
    eventually,
    picks,
    put,
    relay,
    run_all,
    waits_for_lock,
)
from tests.support.script import playing

pytestmark = pytest.mark.usefixtures("committed")

KEYS, STEPS = "abcd", 15


class Failing:
    """Parts for the consumers: one attempt in ten fails, half of these for good."""

    def __init__(self, seed):
        self._chance = random.Random(seed)

    def fail(self, event):
        """Fail, or not."""
        if self._chance.random() < 0.1:
            raise self._chance.choice([PermanentError, ValueError])("not now")

    def translating(self, contract):
        """Return a part that translates, or fails."""

        def translate(event):
            self.fail(event)
            return contract(order=event.order, number=event.number)

        return translate

    def parts(self):
        """Return a part for each consumer that may fail."""
        plain = dict.fromkeys(("note", "count", "pick", "watch"), self.fail)
        return {**plain, "announce": self.translating(Sold), "want": self.translating(Wanted)}


def write(first, last):
    """Record steps of every key, a transaction each."""
    for number in range(first, last + 1):
        for key in KEYS:
            put(*(event(order=key, number=number) for event in (Noted, Counted, Listed, Checked)))


def work():
    """Do what there is to do in both contexts."""
    for label, mover in product(("shop", "depot"), (relay, dispatch)):
        mover(label)


def solve():
    """Retry everything that failed, and let time pass."""
    for label in ("shop", "depot"):
        retry(Selection(context=label))
    advance(timedelta(hours=2))


def all_done():
    """Return whether nothing is left; what is done may have made something new to be sent."""
    to_send = OutboxMessage.objects.exclude(state="sent")
    to_do = Delivery.objects.exclude(state="done")
    return not (to_send.exists() or to_do.exists() or to_send.exists())


def meanwhile(*loops, act):
    """Repeat some functions in a thread each until ``act`` has ended and all is done."""
    ended = threading.Event()
    errors = []

    def repeat(function):
        try:
            while not ended.wait(0.005):
                function()
        except Exception as error:  # noqa: BLE001  raised below
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=repeat, args=(loop,)) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        act()
        eventually(lambda: errors or all_done(), "everything is handled")
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert errors == []


def check():
    """Check that each consumer had each step of each key once, in order."""
    for key in KEYS:
        for consumer in ("note", "count", "enlist"):
            assert entries(consumer, key) == list(range(1, STEPS + 1))
        for consumer in ("pick", "watch"):
            assert picks(consumer, key) == list(range(1, STEPS + 1))


@pytest.mark.parametrize("seed", [1, 2])
def test_operators_disturb_no_worker(seed):
    """Retries, pauses, pruning and looking, in the midst of failures and three workers."""

    def operate():
        solve()
        for queue in (Queue.OUTBOX, Queue.INBOX):
            pause(get_context("shop"), queue)
            queue_stats()
            resume(get_context("shop"), queue)
        repartition()
        prune()

    with playing(**Failing(seed).parts()):
        meanwhile(work, work, work, operate, act=lambda: write(1, STEPS))

    check()


@pytest.mark.parametrize(("outbox", "inbox"), [(3, 5), (1, 2), (4, 16)])
def test_a_repartition_disturbs_no_writer(settings, outbox, inbox):
    """With the new settings, what was written before and after arrives in order."""
    with playing(**Failing(3).parts()):
        write(1, 4)
        relay("shop")
        dispatch("shop", limit=20)
        write(5, 8)
        settings.OUTBOX_INBOX = {"PARTITIONS": {"outbox": outbox, "inbox": inbox}}

        def act():
            write(9, 11)
            repartition()
            write(12, STEPS)

        meanwhile(work, work, solve, act=act)

    check()


@pytest.mark.postgres
@pytest.mark.mariadb
@pytest.mark.mysql
@pytest.mark.parametrize(
    "operate",
    [
        repartition,
        lambda: pause(get_context("shop"), Queue.INBOX),
        lambda: discard(Selection(context="shop", key="a"), "gone", unfinished=True),
    ],
    ids=["repartition", "pause", "discard"],
)
def test_operators_wait_for_the_transaction_that_a_worker_is_in(operate):
    """What is being handled is finished first; nothing changes under a handler's feet."""
    handling, go_on = threading.Event(), threading.Event()

    def linger(event):
        handling.set()
        assert go_on.wait(PATIENCE)

    put(Noted(order="a", number=1))
    relay("shop")
    with Worker() as worker, Worker() as operator, playing(note=linger):
        worked = worker.start(dispatch, "shop")
        assert handling.wait(PATIENCE)
        operated = operator.start(operate)
        eventually(waits_for_lock, "the operator waits")
        go_on.set()
        operated.result(PATIENCE)
        worked.result(PATIENCE)

    assert entries() == [1]
    assert delivery_states("note") == ["done"]


@pytest.mark.postgres
def test_a_repartition_waits_for_transactions_that_have_recorded(settings, monkeypatch):
    """No worker would look for what they commit in a partition that is gone."""
    monkeypatch.setattr(table_locks, "LOCK_TIMEOUT", 20)
    settings.OUTBOX_INBOX = {"PARTITIONS": {"outbox": 8, "inbox": 8}}
    repartition()
    with Worker() as writer, Worker() as operator:
        with writer.transaction():
            for key in KEYS:
                writer.do(record, Noted(order=key, number=1))
            settings.OUTBOX_INBOX = {"PARTITIONS": {"outbox": 2, "inbox": 8}}
            operated = operator.start(repartition)
            eventually(waits_for_lock, "the operator waits")
        operated.result(PATIENCE)

    assert set(OutboxMessage.objects.values_list("partition", flat=True)) <= {0, 1}
    run_all()
    assert all(entries(order=key) == [1] for key in KEYS)
