"""What it takes to look when there is nothing, and to get one message through when there is."""

from statistics import median, quantiles
from time import perf_counter
from typing import Final

from django.db import transaction

from benchmarks.filling import clear, store
from benchmarks.harness import Reading
from benchmarks.store.events import FIRST, bought
from outbox_inbox import record
from outbox_inbox.inbox.dispatcher import dispatch_inbox
from outbox_inbox.outbox.relay import relay_outbox
from outbox_inbox.queues.partitions import ensure_partitions


def idle_poll(count: int) -> float:
    """Return the median time (ms) of a look into the outbox and the inbox of an idle context."""
    _start_empty()
    return median(_pass() for _ in range(count))


def median_latency(count: int) -> float:
    """Return the median of `latencies`."""
    return median(latencies(count))


def high_latency(count: int) -> float:
    """Return the 99th percentile of `latencies`."""
    return quantiles(latencies(count), n=100, method="inclusive")[-1]


def latencies(count: int) -> list[float]:
    """Return times (ms) from the commit of a use case until its event was relayed and handled.

    In this process and at once: what a wake-up takes comes on top.
    """
    _start_empty()
    found = []
    for number in range(FIRST, FIRST + max(count, 2)):
        with transaction.atomic():
            record(bought(number))
        found.append(_pass())
    return found


def _start_empty() -> None:
    clear()
    ensure_partitions("default")
    _pass()


def _pass() -> float:
    context = store()
    began = perf_counter()
    relay_outbox(context)
    dispatch_inbox(context)
    return (perf_counter() - began) * 1000


BENCHMARKS: Final = (
    Reading(
        name="idle",
        title="an idle poll: relay and dispatch of one context",
        unit="ms",
        take=idle_poll,
        size=300,
        target=2.0,
    ),
    Reading(
        name="latency",
        title="from commit to handled, relay and dispatch in one process, median",
        unit="ms",
        take=median_latency,
        size=300,
    ),
    Reading(
        name="latency-p99",
        title="from commit to handled, relay and dispatch in one process, 99 of 100",
        unit="ms",
        take=high_latency,
        size=300,
    ),
)
