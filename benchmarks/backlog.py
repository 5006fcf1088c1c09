"""Old rows that should cost nothing: messages parked behind one key, and finished rows.

The other side is the same mover on tables that only have the rows it moves. Each side has tables of
its own, so that they can take turns.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count as numbers
from typing import Final

from django.db import connections

from benchmarks import tables
from benchmarks.harness import Comparison, Work
from benchmarks.store.events import Seen
from benchmarks.tables import DELIVERY, INBOX, OUTBOX, execute, fill_inbox, fill_outbox
from outbox_inbox.contexts import Context
from outbox_inbox.inbox.dispatcher import dispatch_inbox
from outbox_inbox.models import Partition
from outbox_inbox.outbox.relay import relay_outbox
from outbox_inbox.queues.partitions import ensure_partitions

_PARKED: Final = 100_000
_FINISHED: Final = 1_000_000
_OLD: Final = 10_000_000
"""The first number of the old rows, far from those of the work."""

_blocks: Final = numbers(1)

Prepare = Callable[[int], Work]


def park_behind_one_key(share: float) -> None:
    """Fill outbox and inbox with messages that wait for a dead one of their key."""
    count, using = int(_PARKED * share), "parked"
    tables.clear_tables(using)
    fill_outbox(Seen, count, using=using, first=_OLD, state="waiting", key="stuck")
    fill_inbox(Seen, count, using=using, first=_OLD, state="waiting", key="stuck", partitions=1)
    for name in (OUTBOX, DELIVERY):
        head = f"id = (SELECT MIN(id) FROM {name})"
        execute(using, f"UPDATE {name} SET state = 'dead', holds = TRUE WHERE {head}")
    _vacuum(using)


def finish_many(share: float) -> None:
    """Fill outbox and inbox with messages that were sent and handled."""
    count, using = int(_FINISHED * share), "finished"
    tables.clear_tables(using)
    fill_outbox(Seen, count, using=using, first=_OLD, state="sent")
    fill_inbox(Seen, count, using=using, first=_OLD, state="done", partitions=1)
    _vacuum(using)


def relay_on(using: str) -> Prepare:
    """Return what prepares the work of the relay on the tables of an alias."""

    def prepare(count: int) -> Work:
        context = _cleared_store(using)
        fill_outbox(Seen, count, using=using, first=_block(count))
        return lambda: relay_outbox(context).done

    return prepare


def dispatch_on(using: str) -> Prepare:
    """Return what prepares the work of the dispatcher, all in the partition of the parked key."""

    def prepare(count: int) -> Work:
        context = _cleared_store(using)
        fill_inbox(Seen, count, using=using, first=_block(count), partitions=1)
        return lambda: dispatch_inbox(context).done

    return prepare


def _cleared_store(using: str) -> Context:
    """Remove what the previous turn has left, and return the store with this database."""
    if using == "default":
        tables.clear_tables()
    execute(using, f"UPDATE {DELIVERY} SET state = 'done' WHERE state = 'ready'")
    copy_partitions(using)
    return replace(tables.store(), database=using)


def copy_partitions(using: str) -> None:
    """Give an alias the partitions that the default database has."""
    ensure_partitions("default")
    Partition.objects.using(using).bulk_create(
        list(Partition.objects.using("default")), ignore_conflicts=True
    )


def _block(count: int) -> int:
    """Return the first of so many numbers that were not used before."""
    return next(_blocks) * max(count, 10_000)


def _vacuum(using: str) -> None:
    """Vacuum and analyze the tables, as autovacuum does sooner or later."""
    postgresql = connections[using].vendor == "postgresql"
    for name in (OUTBOX, INBOX, DELIVERY):
        execute(using, f"VACUUM (ANALYZE) {name}" if postgresql else f"ANALYZE {name}")


def _comparisons() -> Iterator[Comparison]:
    for alias, title, set_up in (
        ("parked", "100,000 parked behind one key", park_behind_one_key),
        ("finished", "1,000,000 finished rows", finish_many),
    ):
        for mover, on in (("relay", relay_on), ("dispatch", dispatch_on)):
            yield Comparison(
                name=f"{mover}-{alias}",
                title=f"{mover} with {title} against empty tables",
                unit="messages",
                bare=on("default"),
                ours=on(alias),
                against="empty",
                target=0.50,
                size=2_000,
                turns=2,
                set_up=set_up,
            )


BENCHMARKS: Final = tuple(_comparisons())
