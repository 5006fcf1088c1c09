"""Exceptions that end a worker, and what they cost the message in hand and the others."""

import asyncio
from contextlib import suppress
from types import SimpleNamespace

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from django.db import transaction

from outbox_inbox import signals, tasks
from outbox_inbox.inbox import dispatcher
from outbox_inbox.models import Delivery, DeliveryAttempt, OutboxMessage, Partition, Queue
from tests.shop.contracts import Sold
from tests.shop.events import Counted, Noted
from tests.support.handling import delivery, each_way, has_second_of_a
from tests.support.movers import (
    come_due,
    crash,
    crashing,
    deliver,
    delivery_states,
    dispatch,
    entries,
    fall_silent,
    heard,
    leave_token,
    put,
    relay,
    states,
    steps,
)
from tests.support.relaying import out_of_reach
from tests.support.script import playing
from tests.support.wire import WIRE

pytestmark = pytest.mark.usefixtures("committed")

ENDINGS = pytest.mark.parametrize(
    "ending",
    [SystemExit, asyncio.CancelledError, GeneratorExit, SoftTimeLimitExceeded],
)


def end_with(ending):
    """Return a part that ends its worker at the second step of the order "a"."""

    def part(events):
        if has_second_of_a(events):
            raise ending

    return part


def start_workers(number, mover=dispatch):
    """Start workers one after the other; each takes the one before for crashed."""
    for _ in range(number):
        with suppress(SystemExit, asyncio.CancelledError, GeneratorExit, SoftTimeLimitExceeded):
            mover()
        fall_silent()


@ENDINGS
@each_way
def test_what_ends_each_worker_is_dead_in_the_end(settings, consumer, event, ending):
    """Each end is an attempt of the message in hand, as a crash is."""
    settings.OUTBOX_INBOX = {
        **settings.OUTBOX_INBOX,
        "MAX_ATTEMPTS": 3,
        "PARTITIONS": {"inbox": 8},
    }
    deliver(*steps(event, 3))
    with playing(**{consumer: end_with(ending)}):
        start_workers(5)
    assert delivery_states(consumer) == ["done", "dead", "waiting"]


@ENDINGS
def test_what_ends_each_relay_is_dead_in_the_end(settings, ending):
    """A transport, too, may end its worker at one message."""
    settings.OUTBOX_INBOX = {**WIRE, "MAX_ATTEMPTS": 3}
    put(*steps(Sold, 1))

    def publish(messages):
        raise ending

    with playing(publish=publish):
        start_workers(5, relay)
    assert states() == ["dead"]


def test_ctrl_c_costs_no_message_an_attempt():
    """An operator stops the worker, and the next one goes on as if nothing had been."""
    deliver(*steps(Noted, 2))
    with playing(note=end_with(KeyboardInterrupt)), pytest.raises(KeyboardInterrupt):
        dispatch()
    dispatch()
    assert (entries(), DeliveryAttempt.objects.exists()) == ([1, 2], False)


def test_an_innocent_message_is_handled_after_a_time_limit(settings):
    """The limit struck while it was in hand: it is handled by the next worker."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "MAX_ATTEMPTS": 1}
    deliver(*steps(Noted, 3))
    with playing(note=end_with(SoftTimeLimitExceeded)):
        start_workers(1)
    dispatch()
    assert entries() == [1, 2, 3]


def test_others_are_handled_before_a_message_that_has_ended_its_worker(settings):
    """It comes last, so that the other keys of its partition do not wait for it."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "MAX_ATTEMPTS": 10}
    deliver(*steps(Counted, [2]), *steps(Counted, 3, "b"))
    Delivery.objects.update(partition=0)

    def part(events):
        if has_second_of_a(events):
            crash()

    with playing(count=part):
        for _ in range(3):
            with crashing():
                dispatch()
            fall_silent()
    assert entries("count", "b") == [1, 2, 3]


def test_a_message_that_has_ended_several_workers_backs_off():
    """The workers are needed for other partitions and contexts."""
    deliver(*steps(Noted, 2))
    with playing(note=end_with(SystemExit)):
        start_workers(5)
    row = delivery("note", 2)
    assert (row.state, row.due_at is not None, row.attempts) == ("ready", True, 3)


def test_a_message_that_backed_off_after_crashes_is_tried_again():
    """The back-off ends, and the message is handled if its cause is gone."""
    deliver(*steps(Noted, 2))
    with playing(note=end_with(SystemExit)):
        start_workers(5)
    come_due()
    dispatch()
    assert entries() == [1, 2]


def test_an_outage_in_a_careful_walk_is_not_taken_for_the_end_of_a_worker(settings):
    """What had failed before is sent by the next careful walk, and is not blamed for a crash."""
    settings.OUTBOX_INBOX = WIRE
    put(*steps(Sold, 1))
    OutboxMessage.objects.update(attempts=3, error="ValueError: of another day")
    leave_token(Queue.OUTBOX)
    with playing(publish=out_of_reach):
        relay()
    Partition.objects.update(retry_at=None)
    leave_token(Queue.OUTBOX)
    relay()
    assert states() == ["sent"]


# Hooks


@each_way
def test_the_hooks_of_other_messages_run_after_one_that_raises(consumer, event):
    """A transaction may have many messages, and each has hooks of its own."""
    deliver(*steps(event, 3))
    ran = []

    def part(events):
        for each in events if isinstance(events, list) else [events]:
            number = each.number
            transaction.on_commit(lambda number=number: ran.append(1 // (number - 2)))

    with playing(**{consumer: part}):
        dispatch()
    assert ran == [-1, 1]


def test_a_hook_that_raises_is_reported_with_its_own_message():
    """Not with the last one of the transaction."""
    envelopes = deliver(*steps(Counted, 3))

    def part(event):
        number = event.number
        transaction.on_commit(lambda: 1 // (number - 2))

    with heard(signals.hook_failed) as reported, playing(count=part):
        dispatch()
    assert [each["message_id"] for each in reported] == [envelopes[1].id]


# Celery's limits


def test_a_task_ends_before_the_time_limits_it_runs_under(monkeypatch):
    """Those of its request, of its own and of the project; the shortest counts."""
    limits = SimpleNamespace(task_time_limit=50, task_soft_time_limit=None)
    task = SimpleNamespace(
        request=SimpleNamespace(timelimit=(None, 10)),
        time_limit=None,
        soft_time_limit=20,
        app=SimpleNamespace(conf=limits),
    )
    monkeypatch.setattr(tasks, "current_task", task)
    assert tasks._seconds_to_run() == pytest.approx(8)


def test_a_task_without_limits_runs_as_long_as_usual():
    """Outside of a task, too."""
    assert tasks._seconds_to_run() == 20


def test_a_time_limit_ends_the_task(monkeypatch):
    """Other contexts are not begun after it has struck."""
    asked = []

    def strike(context, **options):
        asked.append(context.label)
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(dispatcher, "dispatch_inbox", strike)
    with pytest.raises(SoftTimeLimitExceeded):
        tasks.dispatch_inbox()
    assert len(asked) == 1
