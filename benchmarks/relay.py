"""The relay: from the outbox into the context's own inbox, with one delivery a message."""

from typing import Final

from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from benchmarks.harness import Comparison, Reading, Work
from benchmarks.store.events import Bought
from benchmarks.tables import (
    DELIVERY,
    INBOX,
    OUTBOX,
    analyze_tables,
    clear_tables,
    fill_outbox,
    store,
)
from outbox_inbox.outbox.relay import relay_outbox
from outbox_inbox.queues.partitions import ensure_partitions
from outbox_inbox.queues.statements.dialects import dialect

_BATCH: Final = 500
_COLUMNS: Final = (
    "message_id, type, schema_version, key, payload, headers, correlation_id, causation_id, hops,"
    " key_hash, recorded_at"
)


def raw_relay(count: int) -> Work:
    """Return the work of INSERT … SELECT, twice, and UPDATE, in batches of 500."""
    _fill(count)

    def work() -> int:
        done = 0
        while moved := _move_batch():
            done += moved
        return done

    return work


def our_relay(count: int) -> Work:
    """Return the work of the relay."""
    _fill(count)
    return lambda: relay_outbox(store()).done


def statements_a_message(count: int) -> float:
    """Return the relay's statements per message, BEGIN and COMMIT included."""
    work = our_relay(count)
    with CaptureQueriesContext(connection) as queries:
        work()
    return len(queries) / count


def _fill(count: int) -> None:
    clear_tables()
    ensure_partitions("default")
    fill_outbox(Bought, count)
    analyze_tables()


def _move_batch() -> int:
    sql = dialect(connection)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id FROM {OUTBOX} WHERE context = %s AND partition = 0 AND state = 'pending'"
            " AND due_at IS NULL ORDER BY id LIMIT %s",
            ["store", _BATCH],
        )
        ids = sql.members([row[0] for row in cursor.fetchall()])
        cursor.execute(
            f"INSERT INTO {INBOX} (context, source, {_COLUMNS}, received_at)"
            f" SELECT 'store', 'store', {_COLUMNS}, {sql.now} FROM {OUTBOX}"
            f" WHERE id {sql.among} ORDER BY id RETURNING id",
            [ids],
        )
        new = sql.members([row[0] for row in cursor.fetchall()])
        cursor.execute(
            f"INSERT INTO {DELIVERY} (message_id, context, consumer, partition, key, state,"
            " attempts, holds, error)"
            " SELECT id, context, 'store.handlers.enter', key_hash %% 8, key, 'ready', 0, FALSE, ''"
            f" FROM {INBOX} WHERE id {sql.among} ORDER BY id",
            [new],
        )
        cursor.execute(
            f"UPDATE {OUTBOX} SET state = 'sent', finished_at = {sql.now} WHERE id {sql.among}",
            [ids],
        )
        return int(cursor.rowcount)


BENCHMARKS: Final = (
    Comparison(
        name="relay",
        title="relay into the own inbox against raw INSERT … SELECT and UPDATE",
        unit="messages",
        bare=raw_relay,
        ours=our_relay,
        target=0.60,
        size=10_000,
        turns=2,
    ),
    Reading(
        name="relay-statements",
        title="SQL statements a message of the relay",
        unit="statements",
        take=statements_a_message,
        target=0.02,
        size=10_000,
    ),
)
