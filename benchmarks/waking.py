"""How long a commit waits for another process that has nothing to do, and what a nudge costs."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median, quantiles
from time import perf_counter
from typing import Any, Final

from django.db import connection, connections, transaction
from django.test.utils import override_settings

from benchmarks.filling import PURCHASE, clear
from benchmarks.harness import Comparison, Reading, Work
from benchmarks.recording import business_row_and_event
from benchmarks.store.events import FIRST, bought
from outbox_inbox import record
from outbox_inbox.partitions import ensure_partitions
from outbox_inbox.wakeup import notify

Waits = tuple[float, float]

_NOTIFIED: Final = (0.1, 0.3)
"""Between how many seconds there is nothing to do between two messages."""
_POLLED: Final = (2.0, 3.0)
"""The same for a process that has to fall asleep first."""
_GLANCE: Final = 0.0002  # seconds between two looks at what the other process has committed
_PATIENCE: Final = 10.0


def latencies(wake_up: str | None, waits: Waits, count: int) -> list[float]:
    """Return times (ms) from a commit here until ``run_contexts`` has committed the handler."""
    clear()
    ensure_partitions("default")
    with override_settings(OUTBOX_INBOX={"WAKE_UP": wake_up}), _worker(wake_up):
        _time(FIRST)  # the first one finds nothing prepared yet
        found = []
        for number in range(FIRST + 1, FIRST + 1 + max(count, 2)):
            time.sleep(random.uniform(*waits))
            found.append(_time(number))
        notify.end()
    return found


def _time(number: int) -> float:
    with transaction.atomic():
        record(bought(number))
    began = perf_counter()
    with connection.cursor() as cursor:
        while perf_counter() - began < _PATIENCE:
            cursor.execute(f"SELECT 1 FROM {PURCHASE} WHERE number = %s", [number])
            if cursor.fetchone():
                return (perf_counter() - began) * 1000
            time.sleep(_GLANCE)
    raise AssertionError(f"number {number} was not handled within {_PATIENCE:.0f} s")


@contextmanager
def _worker(wake_up: str | None) -> Iterator[None]:
    """Have a process run the contexts."""
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
            json.dump({"databases": databases, "wake_up": wake_up}, process.stdin)
        process.stdout.readline()
        yield
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def _middle(wake_up: str | None, waits: Waits) -> Callable[[int], float]:
    return lambda count: median(latencies(wake_up, waits, count))


def _high(wake_up: str | None, waits: Waits) -> Callable[[int], float]:
    return lambda count: quantiles(latencies(wake_up, waits, count), n=100, method="inclusive")[-1]


def nudging(count: int) -> Work:
    """Return the work of use cases that record an event, and notify whoever listens."""
    work = business_row_and_event(count)

    def nudged() -> int:
        with override_settings(OUTBOX_INBOX={"WAKE_UP": "notify"}):
            return work()

    return nudged


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
        unit="ms",
        take=_middle("notify", _NOTIFIED),
        size=100,
        target=15,
    ),
    Reading(
        name="wake-notify-p99",
        title="from commit to handled in an idle process, notified, 99 of 100",
        unit="ms",
        take=_high("notify", _NOTIFIED),
        size=100,
        target=40,
    ),
    Reading(
        name="wake-poll",
        title="from commit to handled in an idle process that polls, median",
        take=_middle(None, _POLLED),
        **_SLOW,
    ),
    Reading(
        name="wake-poll-max",
        title="from commit to handled in an idle process that polls, the longest",
        take=lambda count: max(latencies(None, _POLLED, count)),
        **_SLOW,
    ),
)
