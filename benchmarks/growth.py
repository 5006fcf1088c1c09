"""Growth: a mover with a million messages waiting, against itself with ten thousand.

Each side has tables of its own, which are filled once; after that a turn puts in as much as it takes
out. The planner has read its statistics in the full backlog. In the benchmarks that end in
``-worked-off`` it still believes in them, and all but ten thousand messages are finished.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count as numbers
from typing import Final

from django.db import connections

from benchmarks.backlog import copy_partitions
from benchmarks.harness import Comparison, Work
from benchmarks.mall.contracts import Sold
from benchmarks.redis_streams import fill_entries, unavailable_reason
from benchmarks.store.events import Bought, Seen
from benchmarks.tables import (
    DELIVERY,
    INBOX,
    OUTBOX,
    STREAM,
    clear_tables,
    execute,
    fill_inbox,
    fill_outbox,
    fill_stream,
)
from outbox_inbox.contexts import Context, contexts, get_context
from outbox_inbox.inbox.dispatcher import dispatch_inbox
from outbox_inbox.inbox.receiver import receive_messages
from outbox_inbox.operations import queue_stats
from outbox_inbox.outbox.relay import relay_outbox
from outbox_inbox.queues.statements import all_partition_statuses
from outbox_inbox.queues.statements.common import CHECKPOINT

_FEW: Final = 10_000
_MANY: Final = 1_000_000
_SIDES: Final = {"few": _FEW, "many": _MANY}
_BLOCK: Final = 10_000_000  # numbers of messages that one filling may use

_blocks: Final = numbers(1)
_filled: Final[set[tuple[str, str]]] = set()
"""Which kinds of messages have been put into which tables: a million of them take a minute."""

Prepare = Callable[[int], Work]
Put = Callable[[str, int], None]


def _number() -> int:
    return next(_blocks) * _BLOCK


def _put_domain_events(using: str, count: int) -> None:
    fill_outbox(Seen, count, using=using, first=_number())


def _put_contracts(using: str, count: int) -> None:
    fill_outbox(Sold, count, using=using, first=_number())


def _put_deliveries(using: str, count: int) -> None:
    fill_inbox(Seen, count, using=using, first=_number())


def _put_stored_events(using: str, count: int) -> None:
    # In many transactions, as in a life: the planner counts how many wrote the stream.
    first, part = _number(), max(count // 100, 1)
    for start in range(0, count, part):
        fill_stream(Bought, min(part, count - start), using=using, first=first + start)


def _put_entries(using: str, count: int) -> None:
    fill_entries(f"growth-{using}", count, first=_number())


def _relay(using: str, count: int) -> int:
    return relay_outbox(_store(using), limit=count).done


def _relay_to_redis(using: str, count: int) -> int:
    return relay_outbox(replace(get_context("mall"), database=using), limit=count).done


def _receive(using: str, count: int) -> int:
    branch = replace(get_context("branch"), database=using, transport=f"growth-{using}")
    return receive_messages(branch, limit=count).done


def _dispatch(using: str, count: int) -> int:
    return dispatch_inbox(_store(using), limit=count).done


def _relay_stream(using: str, count: int) -> int:
    return relay_outbox(replace(_store(using), source="stream"), limit=count).done


def _look(using: str, count: int) -> int:
    labels = [context.label for context in contexts()]
    for _ in range(count):
        all_partition_statuses(connections[using], labels)
    return count


def _count(using: str, count: int) -> int:
    chosen = [replace(context, database=using) for context in contexts()]
    for _ in range(count):
        queue_stats(chosen)
    return count


def _store(using: str) -> Context:
    return replace(get_context("store"), database=using)


def _keep(using: str, count: int) -> None:
    """Put in nothing: what looks takes nothing out."""


def _on(using: str, put: Put, move: Callable[[str, int], int]) -> Prepare:
    """Return what prepares a turn on the tables of an alias."""

    def prepare(count: int) -> Work:
        put(using, count)
        return lambda: move(using, count)

    return prepare


def _fill(share: float, *puts: Put) -> None:
    """Fill both sides, where that has not been done, and have the planner read its statistics."""
    for using, size in _SIDES.items():
        copy_partitions(using)
        for put in puts:
            if (using, put.__name__) not in _filled:
                put(using, int(size * share))
                _filled.add((using, put.__name__))
        # The vacuum also removes what another benchmark has left in the indexes.
        postgresql = connections[using].vendor == "postgresql"
        for name in (OUTBOX, INBOX, DELIVERY, STREAM):
            execute(using, f"VACUUM (ANALYZE) {name}" if postgresql else f"ANALYZE {name}")
            if postgresql:
                execute(using, f"ALTER TABLE {name} SET (autovacuum_enabled = false)")


def _filled_with(*puts: Put) -> Callable[[float], None]:
    return lambda share: _fill(share, *puts)


def _worked_off(put: Put, finish: Callable[[int], None]) -> Callable[[float], None]:
    """Return what fills both sides, and then finishes most of the many."""

    def set_up(share: float) -> None:
        _fill(share, put)
        finish(int(_FEW * share))

    return set_up


def _finish_rows(name: str, before: str, after: str) -> Callable[[int], None]:
    def finish(left: int) -> None:
        last = (
            f"SELECT id FROM {name} WHERE state = '{before}' ORDER BY id DESC LIMIT 1 OFFSET {left}"
        )
        done = f"UPDATE {name} SET state = '{after}' WHERE state = '{before}' AND id <= ({last})"
        execute("many", done)
        if connections["many"].vendor == "postgresql":
            execute("many", f"VACUUM {name}")  # it removes what is left in the indexes

    return finish


def _finish_events(left: int) -> None:
    _relay_stream("many", 1)  # it takes everything as its target
    position = f"(SELECT MAX(position) FROM {STREAM}) - {left}"
    execute("many", f"UPDATE {CHECKPOINT} SET position = {position}")


def _empty(share: float) -> None:
    clear_tables()
    _fill(share, _put_domain_events, _put_deliveries)


def _comparisons() -> Iterator[Comparison]:
    for name, title, put, move, size in (
        ("relay", "relay into the own inbox", _put_domain_events, _relay, 4_000),
        ("relay-redis", "relay to Redis Streams", _put_contracts, _relay_to_redis, 4_000),
        ("receive", "receive from Redis Streams", _put_entries, _receive, 4_000),
        ("dispatch", "dispatch, a transaction each", _put_deliveries, _dispatch, 800),
        ("stream", "relay from the stream", _put_stored_events, _relay_stream, 4_000),
    ):
        for suffix, what, set_up in _backlogs(name, put):
            yield Comparison(
                name=f"growth-{name}{suffix}",
                title=f"{title}, 1,000,000 {what} against 10,000 waiting",
                unit="messages",
                bare=_on("few", put, move),
                ours=_on("many", put, move),
                against="10,000",
                target=0.85,
                size=size,
                turns=2,
                set_up=set_up,
            )
    for name, title, move, target in (
        ("look", "a look at all partitions", _look, 0.67),
        ("stats", "queue_stats", _count, 0.25),
    ):
        yield Comparison(
            name=f"growth-{name}",
            title=f"{title}, 1,000,000 waiting against none",
            unit="looks",
            bare=_on("default", _keep, move),
            ours=_on("many", _keep, move),
            against="none",
            target=target,
            size=100,
            turns=2,
            set_up=_empty,
        )


def _backlogs(name: str, put: Put) -> Iterator[tuple[str, str, Callable[[float], None]]]:
    finish = {
        "relay": _finish_rows(OUTBOX, "pending", "sent"),
        "dispatch": _finish_rows(DELIVERY, "ready", "done"),
        "stream": _finish_events,
    }
    yield "", "waiting", _filled_with(put)
    if name in finish:
        yield "-worked-off", "nearly worked off", _worked_off(put, finish[name])


def _ordered(found: Iterator[Comparison]) -> tuple[Comparison, ...]:
    """Return those in a full backlog before those in one that is worked off, and the stream last."""
    # A relay that has followed a stream looks there again, also when its source is the outbox.
    return tuple(
        sorted(found, key=lambda each: ("-stream" in each.name, each.name.endswith("-worked-off")))
    )


BENCHMARKS: Final = _ordered(_comparisons())

__all__ = ["BENCHMARKS", "unavailable_reason"]
