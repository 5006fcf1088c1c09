"""``record()``: one event beside its business row, and a hundred in one transaction."""

from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction

from benchmarks.harness import Comparison, Work
from benchmarks.store.events import FIRST, NOTE, Bought, bought
from benchmarks.store.models import Purchase
from benchmarks.tables import OUTBOX, clear_tables
from outbox_inbox import record
from outbox_inbox.events import codec
from outbox_inbox.queues.statements.dialects import dialect

_MANY: Final = 100
_COLUMNS: Final = (
    "context, message_id, type, schema_version, key, payload, headers, correlation_id,"
    " causation_id, hops, key_hash, kind, partition, due_at, state, attempts, holds, error"
)
_INSERT: Final = (
    f"INSERT INTO {OUTBOX} ({_COLUMNS}, recorded_at) VALUES ({', '.join(['%s'] * 18)}, {{now}})"
)


def business_row_alone(count: int) -> Work:
    """Return the work of use cases that record no event."""
    clear_tables()

    def work() -> int:
        for number in range(FIRST, FIRST + count):
            with transaction.atomic():
                _buy(number)
        return count

    return work


def business_row_and_event(count: int) -> Work:
    """Return the work of use cases that record an event."""
    clear_tables()

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


def business_row_and_ready_made_row(count: int) -> Work:
    """Return the work of use cases that insert an outbox row whose values are ready.

    By the driver alone, on a cursor that stays open: an insert cannot cost less.
    """
    clear_tables()
    rows = iter([_ready_made(number) for number in range(FIRST, FIRST + count)])
    insert = f"{_INSERT.format(now=dialect(connection).now)} RETURNING recorded_at"
    cursor = _driver_cursor()

    def work() -> int:
        for number in range(FIRST, FIRST + count):
            with transaction.atomic():
                _buy(number)
                cursor.execute(insert, next(rows))
                cursor.fetchall()
        return count

    return work


def many_by_executemany(count: int) -> Work:
    """Return the work of inserting ready-made rows, a hundred a transaction."""
    clear_tables()
    rows = [_ready_made(number) for number in range(FIRST, FIRST + count)]
    insert = _INSERT.format(now=dialect(connection).now)

    def work() -> int:
        for start in range(0, count, _MANY):
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.executemany(insert, rows[start : start + _MANY])
        return count

    return work


def many_by_record(count: int) -> Work:
    """Return the work of recording a hundred events a transaction."""
    clear_tables()
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


def _driver_cursor() -> Any:
    """Return a cursor of the driver, without Django's wrapper."""
    connection.ensure_connection()
    if connection.vendor != "postgresql":
        return connection.create_cursor()
    from psycopg import Cursor  # Django's cursor would interpolate the values into the statement

    return Cursor(connection.connection)


def _ready_made(number: int) -> tuple[object, ...]:
    """Return the values of a row in the form that the database takes."""
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
        target=0.60,
        size=250,
        turns=4,
    ),
    Comparison(
        name="record-made",
        title="business row and event against business row and ready-made outbox row",
        unit="transactions",
        bare=business_row_and_ready_made_row,
        ours=business_row_and_event,
        target=0.85,
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
