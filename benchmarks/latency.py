"""The cost of an idle poll, and the time that one message takes through relay and dispatcher."""

from statistics import median, quantiles
from time import perf_counter
from typing import Final

from django.db import transaction

from benchmarks.harness import Reading
from benchmarks.store.events import FIRST, bought
from benchmarks.tables import clear_tables, store
from outbox_inbox import record
from outbox_inbox.inbox.dispatcher import dispatch_inbox
from outbox_inbox.outbox.relay import relay_outbox
from outbox_inbox.queues.partitions import ensure_partitions


def idle_poll(count: int) -> float:
    """Return the median time (ms) of a poll of the outbox and the inbox of an idle context."""
    _empty_queues()
    return median(_relay_and_dispatch() for _ in range(count))


def median_latency(count: int) -> float:
    """Return the median of `latencies`."""
    return median(latencies(count))


def high_latency(count: int) -> float:
    """Return the 99th percentile of `latencies`."""
    return quantiles(latencies(count), n=100, method="inclusive")[-1]


def latencies(count: int) -> list[float]:
    """Return times (ms) from the commit of a use case until its event was relayed and handled.

    In this process and at once: the time of a wake-up is not included.
    """
    _empty_queues()
    found = []
    for number in range(FIRST, FIRST + max(count, 2)):
        with transaction.atomic():
            record(bought(number))
        found.append(_relay_and_dispatch())
    return found


def _empty_queues() -> None:
    clear_tables()
    ensure_partitions("default")
    _relay_and_dispatch()


def _relay_and_dispatch() -> float:
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
