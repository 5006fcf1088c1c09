"""Loading an aggregate of 1,000 events: against a bare loop, and from a snapshot."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from django.db import connection

from benchmarks.harness import Comparison, Work
from benchmarks.store.events import FIRST, Bought, bought
from benchmarks.tables import STREAM, clear_tables
from outbox_inbox.aggregates import Repository, forget_snapshots
from outbox_inbox.events import codec

_EVENTS: Final = 1_000
_AFTER_SNAPSHOT: Final = 10  # events that came after the snapshot
_NAME: Final = "customer-1"


@dataclass
class Customer:
    """The sum of a customer's purchases."""

    number: str
    purchases: int = 0
    total: Decimal = Decimal(0)
    last: Bought | None = None

    def apply(self, event: Bought) -> None:
        """Add the next purchase."""
        self.purchases += 1
        self.total += event.total
        self.last = event


PLAIN: Final = Repository("store", start=Customer, fold=Customer.apply, stream="customer-{}")
SHORT: Final = Repository(
    "store",
    start=Customer,
    fold=Customer.apply,
    stream="customer-{}",
    snapshot_every=_EVENTS - _AFTER_SNAPSHOT,
)


def fill(_: float) -> None:
    """Create the stream, with a snapshot shortly before its end."""
    clear_tables()
    forget_snapshots("store")
    events = [bought(number, order="1") for number in range(FIRST, FIRST + _EVENTS)]
    for part in (events[:-_AFTER_SNAPSHOT], events[-_AFTER_SNAPSHOT:]):
        with SHORT.atomic():
            SHORT.load("1").append(*part)


def bare_loop(count: int) -> Work:
    """Return the work of reading the rows by a cursor, and folding their events."""

    def work() -> int:
        for _ in range(count):
            customer = Customer("1")
            with connection.cursor() as cursor:
                cursor.execute(
                    f"SELECT version, message_id, schema_version, payload FROM {STREAM} WHERE context = %s AND stream = %s"
                    " ORDER BY version",
                    ["store", _NAME],
                )
                for row in cursor.fetchall():
                    customer.apply(codec.decode(Bought, row[3], version=row[2]))
            _check(customer)
        return count

    return work


def from_the_beginning(count: int) -> Work:
    """Return the work of loading without a snapshot."""
    return _loading(PLAIN, count)


def from_the_snapshot(count: int) -> Work:
    """Return the work of loading the snapshot and the ten events after it."""
    return _loading(SHORT, count)


def _loading(repository: Repository[str, Customer], count: int) -> Work:
    def work() -> int:
        for _ in range(count):
            _check(repository.load("1").state)
        return count

    return work


def _check(customer: Customer) -> None:
    if customer.purchases != _EVENTS:
        raise AssertionError(f"{customer.purchases} of {_EVENTS} events are in it")


BENCHMARKS: Final = (
    Comparison(
        name="load",
        title="an aggregate of 1,000 events, folded, against a cursor and codec.decode",
        unit="aggregates",
        bare=bare_loop,
        ours=from_the_beginning,
        target=0.60,
        size=20,
        set_up=fill,
    ),
    Comparison(
        name="load-snapshot",
        title="an aggregate of 1,000 events, from a snapshot, against folding all of them",
        unit="aggregates",
        bare=from_the_beginning,
        ours=from_the_snapshot,
        target=4.0,
        size=20,
        against="folded",
        set_up=fill,
    ),
)
