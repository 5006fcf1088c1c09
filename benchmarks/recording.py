"""``record()``: one event beside its business row, and a hundred in one transaction."""

from typing import Final
from uuid import UUID

from django.db import connection, transaction

from benchmarks.filling import OUTBOX, clear
from benchmarks.harness import Comparison, Work
from benchmarks.store.events import FIRST, NOTE, Bought, bought
from benchmarks.store.models import Purchase
from outbox_inbox import codec, record
from outbox_inbox.dialects import dialect

_MANY: Final = 100
_COLUMNS: Final = (
    "context, message_id, type, schema_version, key, payload, headers, correlation_id,"
    " causation_id, hops, key_hash, kind, partition, due_at, state, attempts, holds, error"
)


def business_row_alone(count: int) -> Work:
    """Return the work of use cases that tell nobody."""
    clear()

    def work() -> int:
        for number in range(FIRST, FIRST + count):
            with transaction.atomic():
                _buy(number)
        return count

    return work


def business_row_and_event(count: int) -> Work:
    """Return the work of use cases that record an event of what they did."""
    clear()

    def work() -> int:
        for number in range(FIRST, FIRST + count):
            with transaction.atomic():
                purchase = _buy(number)
                record(
                    Bought(
                        order=purchase.order,
                        number=purchase.number,
                        country=purchase.country,
                        total=purchase.total,
                        bought_at=purchase.bought_at,
                        note=purchase.note,
                    )
                )
        return count

    return work


def many_by_executemany(count: int) -> Work:
    """Return the work of inserting ready-made rows, a hundred a transaction."""
    clear()
    rows = [_ready_made(number) for number in range(FIRST, FIRST + count)]
    insert = (
        f"INSERT INTO {OUTBOX} ({_COLUMNS}, recorded_at)"
        f" VALUES ({', '.join(['%s'] * 18)}, {dialect(connection).now})"
    )

    def work() -> int:
        for start in range(0, count, _MANY):
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.executemany(insert, rows[start : start + _MANY])
        return count

    return work


def many_by_record(count: int) -> Work:
    """Return the work of recording a hundred events a transaction."""
    clear()
    events = [bought(number) for number in range(FIRST, FIRST + count)]

    def work() -> int:
        for start in range(0, count, _MANY):
            with transaction.atomic():
                record(*events[start : start + _MANY])
        return count

    return work


def _buy(number: int) -> Purchase:
    event = bought(number)
    return Purchase.objects.create(
        order=event.order,
        number=number,
        country=event.country,
        total=event.total,
        bought_at=event.bought_at,
        note=NOTE,
    )


def _ready_made(number: int) -> tuple[object, ...]:
    """Return the values of a row, as the database takes them: nothing is left to be worked out."""
    event = bought(number)
    message_id = dialect(connection).uuid(UUID(int=number))
    about = ("store", message_id, "store.Bought", 1, event.order, codec.encode(event), "{}")
    rest = (message_id, None, 0, number, "domain", 0, None, "pending", 0, False, "")
    return about + rest


BENCHMARKS: Final = (
    Comparison(
        name="record",
        title="business row and event against the business row alone",
        unit="transactions",
        bare=business_row_alone,
        ours=business_row_and_event,
        target=0.70,
        size=250,
        turns=4,
    ),
    Comparison(
        name="record-many",
        title="100 events a transaction against executemany",
        unit="events",
        bare=many_by_executemany,
        ours=many_by_record,
        target=0.70,
        size=2_000,
        turns=4,
    ),
)
