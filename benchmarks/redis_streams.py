"""Redis Streams: out of an outbox, and into an inbox, against bare loops that move the same rows.

The bare sides use psycopg and redis-py directly. They write the same entries and the same rows, in
batches of the same size, and do nothing else: no partition lock, no check for blocked keys, no
validation of received messages.
"""

import multiprocessing
from contextlib import suppress
from datetime import datetime
from multiprocessing.connection import Connection
from typing import Any, Final
from uuid import UUID
from zlib import crc32

from django.conf import settings
from django.db import connection, connections
from django.test import override_settings

from benchmarks.bare_outbox import BATCH, connect_psycopg, locked_batch, refill_outbox
from benchmarks.harness import Comparison, Work
from benchmarks.mall.contracts import Sold
from benchmarks.store.events import bought
from benchmarks.tables import DELIVERY, INBOX
from outbox_inbox.contexts import get_context
from outbox_inbox.events import codec
from outbox_inbox.inbox.receiver import receive_messages
from outbox_inbox.outbox.relay import relay_outbox

_COLUMNS: Final = (
    "message_id, type, schema_version, key, payload, headers, correlation_id, causation_id, hops,"
    " key_hash, recorded_at"
)

_AT_ONCE: Final = 10_000  # entries of one script, which keeps the server for some milliseconds
_PUT: Final = """
for n = tonumber(ARGV[1]), tonumber(ARGV[1]) + tonumber(ARGV[2]) - 1 do
  local id = string.format('00000000-0000-0000-0000-%012x', n)
  local key = string.format('order-%06d', n % 1000)
  redis.call('XADD', KEYS[1], '*', 'ce_specversion', '1.0', 'ce_id', id, 'ce_source', '/mall',
    'ce_type', 'mall.sold.v1', 'ce_time', '2026-01-02T03:04:05.678900Z',
    'ce_datacontenttype', 'application/json', 'ce_correlationid', id,
    'ce_subject', key, 'ce_partitionkey', key, 'data', ARGV[3])
end
"""


def unavailable_reason() -> str | None:
    """Return why nothing here can be measured, or None."""
    if connection.vendor != "postgresql":
        return "the bare sides speak to PostgreSQL"
    from redis import RedisError

    try:
        with _redis() as server:
            server.ping()
    except RedisError as error:
        return f"Redis does not answer: {error}"
    return None


def delete_streams() -> None:
    """Delete what was written to Redis."""
    with _redis() as server:
        server.unlink(_stream(), f"{_stream()}:1")


def delete_all_streams() -> None:
    """Do as `delete_streams`, for all transports that use Redis."""
    delete_streams()
    with _redis() as server:
        server.unlink(*map(_stream, ("growth-few", "growth-many")))


def fill_entries(alias: str, count: int, *, first: int) -> None:
    """Put messages of the mall into the stream of a transport.

    Arguments:
        first: the number of the first one; the message ids are made of the numbers.
    """
    from redis import ResponseError

    payload = codec.encode(bought(first, Sold))
    with _redis() as server:
        put = server.register_script(_PUT)
        for start in range(first, first + count, _AT_ONCE):
            most = min(_AT_ONCE, first + count - start)
            put(keys=[_stream(alias)], args=[start, most, payload])
        with suppress(ResponseError):  # it exists
            server.xgroup_create(_stream(alias), "branch", id="0")


def bare_relay(count: int) -> Work:
    """Return the work of SELECT … FOR UPDATE, pipelined XADD and UPDATE, in batches of 500."""
    _fill(count)
    database, server = connect_psycopg(), _redis()

    def work() -> int:
        done = 0
        while sent := _send_batch(database, server):
            done += sent
        database.close()
        return done

    return work


def our_relay(count: int) -> Work:
    """Return the work of the relay."""
    _fill(count)
    return lambda: relay_outbox(get_context("mall")).done


def one_relay(count: int) -> Work:
    """Return the work of one relay process on two partitions."""
    return _relays(count, 1)


def two_relays(count: int) -> Work:
    """Return the work of two relay processes on two partitions."""
    return _relays(count, 2)


def bare_receiver(count: int) -> Work:
    """Return the work of XREADGROUP, INSERT, INSERT … SELECT of deliveries, and XACK."""
    _fill_stream(count)
    database, server = connect_psycopg(), _redis()

    def work() -> int:
        done = 0
        while received := _receive_batch(database, server):
            done += received
        database.close()
        return done

    return work


def our_receiver(count: int) -> Work:
    """Return the work of the receiver."""
    _fill_stream(count)
    return lambda: receive_messages(get_context("branch")).done


def _fill(count: int, partitions: int = 1) -> None:
    delete_streams()
    refill_outbox(count, partitions)


def _fill_stream(count: int) -> None:
    """Fill the stream with the relay's messages, and create a group that has read none of them."""
    our_relay(count)()
    _redis().xgroup_create(_stream(), "branch", id="0")


def _send_batch(database: Any, server: Any) -> int:
    with locked_batch(database) as rows:
        sending, stream = server.pipeline(transaction=False), _stream()
        for _, id_, type_, version, key, payload, correlation, time in rows:
            entry = {
                "ce_specversion": "1.0",
                "ce_id": str(id_),
                "ce_source": "/mall",
                "ce_type": f"{type_}.v{version}",
                "ce_time": f"{time:%Y-%m-%dT%H:%M:%S.%fZ}",
                "ce_datacontenttype": "application/json",
                "ce_correlationid": str(correlation),
                "ce_subject": key,
                "ce_partitionkey": key,
                "data": payload,
            }
            sending.xadd(stream, entry)
        if rows:
            sending.execute()
        return len(rows)


def _receive_batch(database: Any, server: Any) -> int:
    stream = _stream()
    found = server.xreadgroup("branch", "bare", {stream: ">"}, count=BATCH)
    if not found:
        return 0
    entries = found[0][1]
    fields = [fields for _, fields in entries]
    with database.transaction():
        new = database.execute(
            f"INSERT INTO {INBOX} (context, source, {_COLUMNS}, received_at)"
            " SELECT 'branch', 'mall', i, 'mall.sold', 1, k, p, '{}', c, NULL, 0, h, t, now()"
            " FROM unnest(%b::uuid[], %b::text[], %b::text[], %b::uuid[], %b::bigint[],"
            " %b::timestamptz[]) AS r (i, k, p, c, h, t) ON CONFLICT (context, source, message_id) DO NOTHING"
            " RETURNING id",
            [
                [UUID(each[b"ce_id"].decode()) for each in fields],
                [each[b"ce_partitionkey"].decode() for each in fields],
                [each[b"data"].decode() for each in fields],
                [UUID(each[b"ce_correlationid"].decode()) for each in fields],
                [crc32(each[b"ce_partitionkey"]) for each in fields],
                [datetime.fromisoformat(each[b"ce_time"].decode()) for each in fields],
            ],
        ).fetchall()
        database.execute(
            f"INSERT INTO {DELIVERY} (message_id, context, consumer, partition, key, state,"
            " attempts, holds, error)"
            " SELECT id, context, 'branch.handlers.note', key_hash %% 8, key, 'ready', 0, FALSE, ''"
            f" FROM {INBOX} WHERE id = ANY(%s) ORDER BY id",
            [[row[0] for row in new]],
        )
    server.xack(stream, "branch", *(id_ for id_, _ in entries))
    return len(entries)


def _relays(count: int, processes: int) -> Work:
    """Return the work of relay processes that have been started and wait for a signal."""
    deployment = {**settings.OUTBOX_INBOX, "PARTITIONS": {"outbox": 2}}
    with override_settings(OUTBOX_INBOX=deployment):
        _fill(count, partitions=2)
        connections.close_all()  # two processes must not share one
        workers = [_start_relay() for _ in range(processes)]

    def work() -> int:
        for worker in workers:
            worker.send("go")
        return sum(worker.recv() for worker in workers)

    return work


def _start_relay() -> Connection:
    """Start a process that relays on a signal, and then reports how much it has sent."""
    parent, child = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_serve, args=[child], daemon=True)
    process.start()
    child.close()
    return parent


def _serve(orders: Connection) -> None:
    connection.ensure_connection()
    orders.recv()
    orders.send(relay_outbox(get_context("mall")).done)
    connections.close_all()


def _redis() -> Any:
    import redis

    return redis.Redis.from_url(_entry()["LOCATION"], protocol=2)


def _entry(alias: str = "redis") -> dict[str, Any]:
    found: dict[str, Any] = settings.OUTBOX_INBOX["TRANSPORTS"][alias]
    return found


def _stream(alias: str = "redis") -> str:
    return f"{_entry(alias)['OPTIONS']['PREFIX']}:mall"


BENCHMARKS: Final = (
    Comparison(
        name="relay-redis",
        title="relay to Redis Streams against raw SELECT FOR UPDATE, pipelined XADD and UPDATE",
        unit="messages",
        bare=bare_relay,
        ours=our_relay,
        target=0.80,
        size=10_000,
        turns=2,
    ),
    Comparison(
        name="relay-redis-two",
        title="two relay processes on two partitions against one",
        unit="messages",
        bare=one_relay,
        ours=two_relays,
        against="one",
        target=1.3,
        size=10_000,
        turns=2,
    ),
    Comparison(
        name="receive-redis",
        title="receive from Redis Streams against raw XREADGROUP, INSERTs and XACK",
        unit="messages",
        bare=bare_receiver,
        ours=our_receiver,
        target=0.60,
        size=10_000,
        turns=2,
    ),
)
