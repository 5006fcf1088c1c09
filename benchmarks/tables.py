"""Fills the tables with messages in a few statements, so that a round is prepared quickly."""

from typing import Final

from django.db import connections

from benchmarks.mall.contracts import Sold
from benchmarks.store.events import BYTES, FIRST, Bought, bought
from benchmarks.store.models import Purchase
from outbox_inbox import IntegrationEvent
from outbox_inbox.contexts import Context, context_of, get_context
from outbox_inbox.events import codec
from outbox_inbox.models import table
from outbox_inbox.queues.servers import forget
from outbox_inbox.queues.statements import DELIVERY, INBOX, OUTBOX, STREAM
from outbox_inbox.queues.statements.dialects import dialect

PURCHASE: Final = table(Purchase)
_ORDER, _NUMBER = "@order@", 987654321


def store() -> Context:
    """Return the context of the benchmarks, with the present settings."""
    return get_context("store")


def execute(using: str, statement: str, *parameters: object) -> None:
    """Execute a statement."""
    with connections[using].cursor() as cursor:
        cursor.execute(statement, parameters)


def clear_tables(using: str = "default") -> None:
    """Empty all tables but the partitions'."""
    tables = (PURCHASE, DELIVERY, INBOX, OUTBOX, STREAM)
    if connections[using].vendor == "postgresql":
        execute(using, f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE")
    else:
        for name in tables:
            execute(using, f"DELETE FROM {name}")


def analyze_tables(using: str = "default") -> None:
    """Update the planner's statistics, as autovacuum does sooner or later."""
    for name in (OUTBOX, INBOX, DELIVERY):
        execute(using, f"ANALYZE {name}")


def fill_outbox(
    cls: type[Bought] | type[Sold],
    count: int,
    *,
    using: str = "default",
    first: int = FIRST,
    state: str = "pending",
    key: str | None = None,
    partitions: int = 1,
) -> None:
    """Put messages of one event into the outbox of its context.

    Arguments:
        first: the number of the first one; the message ids are made of the numbers.
        key: one key for all; default: a thousand different keys.
        partitions: how many partitions they are spread over.
    """
    sql = dialect(connections[using])
    context, kind = (
        context_of(cls),
        "integration" if issubclass(cls, IntegrationEvent) else "domain",
    )
    execute(
        using,
        f"{_series(using)} INSERT INTO {OUTBOX} (context, message_id, type, schema_version, key,"
        " payload, headers, correlation_id, hops, key_hash, kind, partition, recorded_at, state,"
        " attempts, holds, error)"
        f" SELECT '{context.label}', {_id(using)}, %s, 1, {_key(using)},"
        f" {_payload(using)}, '{{}}', {_id(using)}, 0, n %% 1000, '{kind}', n %% {partitions},"
        f" {sql.now}, %s, 0, FALSE, '' FROM series",
        *(first, first + count - 1, context.type_name(cls), key, _template(cls), key, state),
    )


def fill_stream(
    cls: type[Bought], count: int, *, using: str = "default", first: int = FIRST
) -> None:
    """Put events into the stream of their context, each key a stream, and not into the outbox."""
    sql, context = dialect(connections[using]), context_of(cls)
    execute(
        using,
        f"{_series(using)} INSERT INTO {STREAM} (context, message_id, type, schema_version, key,"
        " payload, headers, correlation_id, hops, key_hash, kind, recorded_at, stream, version,"
        " in_outbox)"
        f" SELECT '{context.label}', {_id(using)}, %s, 1, {_key(using)}, {_payload(using)}, '{{}}',"
        f" {_id(using)}, 0, n %% 1000, 'domain', {sql.now}, {_key(using)}, n / 1000 + 1, FALSE"
        " FROM series",
        *(first, first + count - 1, context.type_name(cls), None, _template(cls), None, None),
    )


def fill_inbox(
    cls: type[Bought],
    count: int,
    *,
    using: str = "default",
    first: int = FIRST,
    state: str = "ready",
    key: str | None = None,
    partitions: int = 8,
) -> None:
    """Put messages of one event into the inbox, with one delivery each; see `fill_outbox`."""
    # The tables get the same ids and messages again and again, as in no database of a project.
    forget(connections[using])
    sql = dialect(connections[using])
    (consumer,) = store().consumers_of(f"store.{cls.__name__}")
    execute(
        using,
        f"{_series(using)} INSERT INTO {INBOX} (context, message_id, type, schema_version, key,"
        " payload, headers, correlation_id, hops, key_hash, recorded_at, source, received_at)"
        f" SELECT 'store', {_id(using)}, %s, 1, {_key(using)},"
        f" {_payload(using)}, '{{}}', {_id(using)}, 0, n %% 1000, {sql.now}, 'store', {sql.now}"
        " FROM series",
        *(first, first + count - 1, f"store.{cls.__name__}", key, _template(cls), key),
    )
    execute(
        using,
        f"INSERT INTO {DELIVERY} (message_id, context, consumer, partition, key, state, attempts,"
        f" holds, error) SELECT id, context, %s, key_hash %% {partitions}, key, %s, 0, FALSE, ''"
        f" FROM (SELECT * FROM {INBOX} ORDER BY id DESC LIMIT {count}) m ORDER BY id",
        *(consumer.name, state),
    )


def _series(using: str) -> str:
    if connections[using].vendor == "postgresql":
        return "WITH series AS (SELECT n FROM generate_series(%s::bigint, %s::bigint) n)"
    return "WITH RECURSIVE series(n) AS (SELECT %s UNION ALL SELECT n + 1 FROM series WHERE n < %s)"


def _id(using: str) -> str:
    """Return ids that grow, as UUIDv7 do."""
    if connections[using].vendor == "postgresql":
        return "lpad(to_hex(n), 32, '0')::uuid"
    return "printf('%%032x', n)"


def _key(using: str) -> str:
    if connections[using].vendor == "postgresql":
        return "COALESCE(%s, 'order-' || lpad((n %% 1000)::text, 6, '0'))"
    return "COALESCE(%s, printf('order-%%06d', n %% 1000))"


def _payload(using: str) -> str:
    number = "n::text" if connections[using].vendor == "postgresql" else "n"
    return f"replace(replace(%s, '{_ORDER}', {_key(using)}), '{_NUMBER}', {number})"


def _template(cls: type[Bought] | type[Sold]) -> str:
    return codec.encode(bought(_NUMBER, cls, order=_ORDER))


def check_size() -> None:
    """Check that the event has the size that the report states."""
    size = len(codec.encode(bought(FIRST)).encode())
    if size != BYTES:
        raise AssertionError(f"the event has {size} bytes, not {BYTES}")
