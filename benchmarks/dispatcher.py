"""The dispatcher, in its three ways of handling, against loops without its safety."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.db import connection, transaction

from benchmarks.harness import Comparison, Work
from benchmarks.store.events import Bought, BoughtListed, BoughtTogether
from benchmarks.store.models import Purchase
from benchmarks.tables import DELIVERY, INBOX, analyze_tables, clear_tables, fill_inbox, store
from outbox_inbox.inbox.dispatcher import dispatch_inbox
from outbox_inbox.models import Partition, table
from outbox_inbox.queues.partitions import ensure_partitions
from outbox_inbox.queues.statements.dialects import dialect

_BATCH: Final = 500
_PARTITIONS: Final = 8

Rows = list[tuple[int, str]]


def read_ahead_loop(count: int) -> Work:
    """Return the work of reading 500 ahead, then claim, create and commit for each."""
    return _bare(count, Bought, _each)


def bare_batches(count: int) -> Work:
    """Return the work of reading 500, creating a row for each, and one mark and commit."""
    return _bare(count, BoughtTogether, _together)


def bare_bulk_create(count: int) -> Work:
    """Return the work of reading 500, one bulk_create, and one mark and commit."""
    return _bare(count, BoughtListed, _as_list)


def ours(cls: type[Bought]) -> Callable[[int], Work]:
    """Return what prepares the work of the dispatcher with the consumer of an event."""

    def prepare(count: int) -> Work:
        _fill(count, cls)
        return lambda: dispatch_inbox(store()).done

    return prepare


def _fill(count: int, cls: type[Bought]) -> None:
    clear_tables()
    ensure_partitions("default")
    fill_inbox(cls, count)
    analyze_tables()


def _bare(count: int, cls: type[Bought], handle: Callable[[int, int], int]) -> Work:
    _fill(count, cls)
    locks = _partitions()

    def work() -> int:
        done = 0
        for number, lock in locks.items():
            while handled := handle(number, lock):
                done += handled
        return done

    return work


def _partitions() -> dict[int, int]:
    """Return the id of the row that is the lock of each partition."""
    rows = Partition.objects.filter(context="store", queue="inbox").order_by("number")
    return dict(rows.values_list("number", "pk"))


def _each(number: int, lock: int) -> int:
    rows = _read(number)
    for delivery, payload in rows:
        with transaction.atomic():
            _claim(lock, delivery)
            Purchase.objects.create(**_fields(payload))
    return len(rows)


def _together(number: int, lock: int) -> int:
    with transaction.atomic():
        _lock(lock)
        rows = _read(number)
        for _, payload in rows:
            Purchase.objects.create(**_fields(payload))
        _mark(rows)
    return len(rows)


def _as_list(number: int, lock: int) -> int:
    with transaction.atomic():
        _lock(lock)
        rows = _read(number)
        Purchase.objects.bulk_create([Purchase(**_fields(payload)) for _, payload in rows])
        _mark(rows)
    return len(rows)


def _fields(payload: str) -> dict[str, Any]:
    """Read the values of a row: no check, no class, no envelope."""
    data = json.loads(payload)
    return {
        "order": data["order"],
        "number": data["number"],
        "country": data["country"],
        "total": Decimal(data["total"]),
        "bought_at": datetime.fromisoformat(data["bought_at"]),
        "note": data["note"],
    }


def _lock(partition: int) -> None:
    _run(
        f"SELECT id FROM {table(Partition)} WHERE id = %s {dialect(connection).skip_locked}",
        partition,
    )


def _read(number: int) -> Rows:
    return _run(
        f"SELECT d.id, m.payload FROM {DELIVERY} d JOIN {INBOX} m ON m.id = d.message_id"
        " WHERE d.context = 'store' AND d.partition = %s AND d.state = 'ready'"
        " AND d.due_at IS NULL ORDER BY d.id LIMIT %s",
        number,
        _BATCH,
    )


def _claim(partition: int, delivery: int) -> None:
    """Take the partition's lock and mark the delivery, in one statement."""
    sql = dialect(connection)
    _run(
        f"WITH held AS (SELECT id FROM {table(Partition)} WHERE id = %s {sql.skip_locked})"
        f" UPDATE {DELIVERY} SET state = 'done', finished_at = {sql.now}"
        " WHERE id = %s AND state = 'ready' AND EXISTS (SELECT 1 FROM held) RETURNING id",
        partition,
        delivery,
    )


def _mark(rows: Rows) -> None:
    sql = dialect(connection)
    if rows:
        _run(
            f"UPDATE {DELIVERY} SET state = 'done', finished_at = {sql.now}"
            f" WHERE id {sql.among} RETURNING id",
            sql.members([row[0] for row in rows]),
        )


def _run(statement: str, *parameters: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def _comparisons() -> Iterator[Comparison]:
    yield Comparison(
        name="dispatch",
        title="ORM handler, a transaction each, against the bare read-ahead loop",
        unit="messages",
        bare=read_ahead_loop,
        ours=ours(Bought),
        target=0.85,
        size=_PARTITIONS * 100,
        turns=4,
    )
    yield Comparison(
        name="dispatch-batch",
        title='ORM handler, transaction="batch", against bare batches without savepoints',
        unit="messages",
        bare=bare_batches,
        ours=ours(BoughtTogether),
        target=0.85,
        size=_PARTITIONS * 250,
        turns=4,
    )
    yield Comparison(
        name="dispatch-list",
        title="list handler with bulk_create against bare bulk_create",
        unit="messages",
        bare=bare_bulk_create,
        ours=ours(BoughtListed),
        target=0.60,
        size=_PARTITIONS * 1000,
        turns=4,
    )


BENCHMARKS: Final = tuple(_comparisons())
