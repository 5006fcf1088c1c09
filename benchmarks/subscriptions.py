"""Streams: subscriptions that read them, and the relay that sends from them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db import connection, transaction
from django.test.utils import override_settings

from benchmarks.harness import Comparison, Work
from benchmarks.store.events import Bought
from benchmarks.tables import (
    STREAM,
    analyze_tables,
    clear_tables,
    execute,
    fill_outbox,
    fill_stream,
    store,
)
from outbox_inbox.models import Checkpoint
from outbox_inbox.outbox.relay import relay_outbox
from outbox_inbox.queues.partitions import ensure_partitions
from outbox_inbox.streams.subscriptions import follow

_PAGE: Final = 1_000


def raw_reading(count: int) -> Work:
    """Return the work of ``position > last``, which would miss what commits late."""
    _fill(count)

    def work() -> int:
        last = done = 0
        while rows := _read_after(last):
            last, done = rows[-1][0], done + len(rows)
        return done

    return work


def our_reading(count: int) -> Work:
    """Return the work of a subscription that begins with the first event."""
    _fill(count)

    def work() -> int:
        done = 0
        while found := _read_page():
            done += found
        return done

    return work


def relay_from_the_outbox(count: int) -> Work:
    """Return the work of the relay of a context with an outbox."""
    clear_tables()
    ensure_partitions("default")
    fill_outbox(Bought, count)
    analyze_tables()
    return lambda: relay_outbox(store()).done


def relay_from_the_stream(count: int) -> Work:
    """Return the work of the relay of a context whose source is the stream."""
    _fill(count)
    ensure_partitions("default")

    def work() -> int:
        with _stream_as_source():
            return relay_outbox(store()).done

    return work


def _fill(count: int) -> None:
    clear_tables()
    Checkpoint.objects.all().delete()
    fill_stream(Bought, count)
    execute("default", f"ANALYZE {STREAM}")


def _read_after(last: int) -> list[tuple[int, ...]]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT position, stream, version, message_id, type, schema_version, key, payload,"
            " headers, correlation_id, causation_id, hops, key_hash, kind, recorded_at"
            f" FROM {STREAM} WHERE context = 'store' AND position > %s ORDER BY position LIMIT %s",
            [last, _PAGE],
        )
        rows: list[tuple[int, ...]] = cursor.fetchall()
        if rows:
            table = Checkpoint._meta.db_table
            cursor.execute(f"UPDATE {table} SET position = %s WHERE id = 0", [rows[-1][0]])
        return rows


def _read_page() -> int:
    with follow(store(), "bench") as cursor:
        if cursor is None:
            raise AssertionError("another process reads the stream")
        found = len(cursor.read(_PAGE))
        cursor.save()
        return found


@contextmanager
def _stream_as_source() -> Iterator[None]:
    with override_settings(OUTBOX_INBOX={"CONTEXTS": {"store": {"source": "stream"}}}):
        yield


BENCHMARKS: Final = (
    Comparison(
        name="follow",
        title="a subscription reads 100,000 events against SELECT … WHERE position > last",
        unit="events",
        bare=raw_reading,
        ours=our_reading,
        target=0.70,
        size=100_000,
    ),
    Comparison(
        name="relay-stream",
        title="the relay from the stream against the relay from the outbox",
        unit="messages",
        bare=relay_from_the_outbox,
        ours=relay_from_the_stream,
        against="outbox",
        target=1.00,
        size=10_000,
        turns=2,
    ),
)
