"""How long a commit waits for another, idle process, and what a nudge costs."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median, quantiles
from time import perf_counter
from typing import Any, Final

from django.conf import settings
from django.db import connection, connections, transaction
from django.test.utils import override_settings

from benchmarks.harness import Comparison, Reading, Work
from benchmarks.mall.contracts import Sold
from benchmarks.record import business_row_and_event
from benchmarks.redis_streams import delete_streams
from benchmarks.store.events import FIRST, NOTE, WHEN, Bought, bought
from benchmarks.tables import clear_tables
from outbox_inbox import record
from outbox_inbox.queues.partitions import ensure_partitions
from outbox_inbox.queues.statements import DELIVERY
from outbox_inbox.queues.wakeup import notifier

Waits = tuple[float, float]

_NOTIFIED: Final = (0.1, 0.3)
"""Seconds between two messages: a random time in this range."""
_POLLED: Final = (2.0, 3.0)
"""The same for a process that polls: its pauses must grow first."""
_POLL_PAUSE: Final = 0.0002  # seconds between two queries for what the other process has committed
_PATIENCE: Final = 10.0


def latencies(wake_up: str | None, waits: Waits, count: int) -> list[float]:
    """Return times (ms) from a commit here until ``run_contexts`` has committed the handler."""
    return _measure(bought, "store", ["store"], wake_up, waits, count)


def redis_latencies(count: int) -> list[float]:
    """Return the same over Redis: one process relays, another receives and handles."""
    delete_streams()
    try:
        return _measure(_sold, "branch", ["mall", "branch"], "notify", _NOTIFIED, count)
    finally:
        delete_streams()


def _measure(
    make: Callable[[int], Bought | Sold],
    handled_by: str,
    labels: list[str],
    wake_up: str | None,
    waits: Waits,
    count: int,
) -> list[float]:
    clear_tables()
    ensure_partitions("default")
    found = []
    with override_settings(OUTBOX_INBOX=settings.OUTBOX_INBOX | {"WAKE_UP": wake_up}):
        with ExitStack() as workers:
            for label in labels:
                workers.enter_context(_worker(label))
            for number in range(1, 2 + max(count, 2)):
                found.append(_time_until_handled(make(FIRST + number), handled_by, number))
                time.sleep(random.uniform(*waits))
        notifier.end_senders()
    return found[1:]  # the first one includes the start of the worker


def _time_until_handled(event: Bought | Sold, handled_by: str, number: int) -> float:
    """Record an event, and return the time (ms) until so many were handled."""
    done = f"SELECT COUNT(*) FROM {DELIVERY} WHERE context = %s AND state = 'done'"
    with transaction.atomic():
        record(event)
    began = perf_counter()
    with connection.cursor() as cursor:
        while perf_counter() - began < _PATIENCE:
            cursor.execute(done, [handled_by])
            if cursor.fetchone()[0] == number:
                return (perf_counter() - began) * 1000
            time.sleep(_POLL_PAUSE)
    raise AssertionError(f"number {number} was not handled within {_PATIENCE:.0f} s")


def _sold(number: int) -> Sold:
    return Sold(
        order=f"order-{number}", number=number, country="SE", total=bought(number).total,
        bought_at=WHEN, note=NOTE,
    )  # fmt: skip


@contextmanager
def _worker(label: str) -> Iterator[None]:
    """Start a process that runs a context with the same settings."""
    keys = ("ENGINE", "HOST", "PORT", "USER", "PASSWORD", "NAME", "OPTIONS")
    databases = {
        alias: {key: connections[alias].settings_dict[key] for key in keys} for alias in connections
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    try:
        with process.stdin:
            deployed = settings.OUTBOX_INBOX
            json.dump(
                {"databases": databases, "outbox_inbox": deployed, "context": label}, process.stdin
            )
        process.stdout.readline()
        yield
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def _percentile_99(found: list[float]) -> float:
    return quantiles(found, n=100, method="inclusive")[-1]


def nudging(count: int) -> Work:
    """Return the work of use cases that record an event, and notify the listeners."""
    work = business_row_and_event(count)

    def nudged() -> int:
        with override_settings(OUTBOX_INBOX=settings.OUTBOX_INBOX | {"WAKE_UP": "notify"}):
            return work()

    return nudged


_QUICK: dict[str, Any] = {"unit": "ms", "size": 100}
_SLOW: dict[str, Any] = {"unit": "ms", "size": 10}

BENCHMARKS: Final = (
    Comparison(
        name="record-notify",
        title='business row and event with WAKE_UP="notify" against none',
        unit="transactions",
        bare=business_row_and_event,
        ours=nudging,
        against="none",
        target=0.95,
        size=1_000,
        turns=4,
    ),
    Reading(
        name="wake-notify",
        title="from commit to handled in an idle process, notified, median",
        take=lambda count: median(latencies("notify", _NOTIFIED, count)),
        target=15,
        **_QUICK,
    ),
    Reading(
        name="wake-notify-p99",
        title="from commit to handled in an idle process, notified, 99 of 100",
        take=lambda count: _percentile_99(latencies("notify", _NOTIFIED, count)),
        target=40,
        **_QUICK,
    ),
    Reading(
        name="wake-redis",
        title="from commit to handled by another context over Redis, idle, median",
        take=lambda count: median(redis_latencies(count)),
        target=15,
        **_QUICK,
    ),
    Reading(
        name="wake-redis-p99",
        title="from commit to handled by another context over Redis, idle, 99 of 100",
        take=lambda count: _percentile_99(redis_latencies(count)),
        target=40,
        **_QUICK,
    ),
    Reading(
        name="wake-poll",
        title="from commit to handled in an idle process that polls, median",
        take=lambda count: median(latencies(None, _POLLED, count)),
        **_SLOW,
    ),
    Reading(
        name="wake-poll-max",
        title="from commit to handled in an idle process that polls, the longest",
        take=lambda count: max(latencies(None, _POLLED, count)),
        **_SLOW,
    ),
)
