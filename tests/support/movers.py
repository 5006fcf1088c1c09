"""What the tests of the movers say often, and how they are several workers at once."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NoReturn, Self, TypeVar
from uuid import uuid4

from django.db import connection, connections, models, transaction
from django.dispatch import Signal

from outbox_inbox import Envelope, PermanentError
from outbox_inbox.contexts import get_context
from outbox_inbox.models import Delivery, OutboxMessage, Partition, Queue
from outbox_inbox.queues import partitions
from outbox_inbox.queues.outcome import Outcome
from outbox_inbox.streams.subscriptions import follow
from outbox_inbox.testing import movers
from outbox_inbox.testing.movers import Crash, come_due, crash, crashing, striking
from outbox_inbox.testing.movers import expire_runs as fall_silent
from outbox_inbox.testing.movers import record_events as put
from tests.depot.models import Pick
from tests.shop.models import Entry
from tests.support.script import Part, playing

__all__ = ["Crash", "come_due", "crash", "crashing", "fall_silent", "put", "striking"]

T = TypeVar("T")

PATIENCE = 60  # seconds, for what another thread, process or server has to do first


class Broken(Exception):
    """What a consumer of the tests raises."""


def relay(label: str = "shop", **options: Any) -> Outcome:
    """Relay the outbox of a context."""
    return movers.relay(label, **options)


def receive(label: str = "depot", **options: Any) -> Outcome:
    """Receive what the transport has for a context."""
    return movers.receive(label, **options)


def dispatch(label: str = "shop", **options: Any) -> Outcome:
    """Dispatch the inbox of a context."""
    return movers.dispatch(label, **options)


def deliver(*events: Any, **terms: Any) -> list[Envelope]:
    """Record events and bring them into the inbox of their context."""
    envelopes = put(*events, **terms)
    relay(envelopes[0].source)
    return envelopes


def run_all() -> Outcome:
    """Relay, receive and dispatch in both test contexts until nothing moves; wait for nothing."""
    total, moved = Outcome(), True
    while moved:
        turn = Outcome()
        for label in ("shop", "depot"):
            turn += relay(label) + receive(label) + dispatch(label)
        total, moved = total + turn, turn.steps > 0
    return total


def steps(event: Callable[..., T], numbers: Sequence[int] | int, order: str = "a") -> list[T]:
    """Return the numbered steps of one order, as events of a class."""
    wanted = range(1, numbers + 1) if isinstance(numbers, int) else numbers
    return [event(order=order, number=number) for number in wanted]


def entries(consumer: str = "note", order: str | None = "a") -> list[int]:
    """Return the numbers that a consumer of the shop has handled, in order of their commit."""
    return _numbers(Entry, consumer, order)


def picks(consumer: str = "pick", order: str | None = "a") -> list[int]:
    """Return the numbers that a consumer of the depot has handled, in order of their commit."""
    return _numbers(Pick, consumer, order)


def _numbers(model: type[models.Model], consumer: str, order: str | None) -> list[int]:
    rows = model.objects.filter(consumer=consumer).order_by("id")
    return list(
        (rows if order is None else rows.filter(order=order)).values_list("number", flat=True)
    )


def states(model: type[models.Model] = OutboxMessage, **which: Any) -> list[str]:
    """Return the states of messages or deliveries, in order."""
    return list(model.objects.filter(**which).order_by("id").values_list("state", flat=True))


def delivery_states(consumer: str = "note", **which: Any) -> list[str]:
    """Return the states of the deliveries of a consumer of the shop, in order."""
    return states(Delivery, consumer__endswith=f".{consumer}", **which)


def count_states(model: type[models.Model]) -> Counter[str]:
    """Return how many messages or deliveries are in each state."""
    return Counter(model.objects.values_list("state", flat=True))


def failing(
    *numbers: int, order: str = "a", error: type[Exception] = Broken
) -> Callable[..., None]:
    """Return a part for a handler: fail for these steps of one order."""

    def fail(event: Any, *_: Any) -> None:
        events = event if isinstance(event, list) else [event]
        for each in events:
            if each.order == order and each.number in numbers:
                raise error(f"not {each.number}")

    return fail


def raising(error: type[BaseException]) -> Callable[..., NoReturn]:
    """Return a part that fails with an error."""

    def fail(*_: Any) -> NoReturn:
        raise error

    return fail


@contextmanager
def heard(signal: Signal) -> Iterator[list[dict[str, Any]]]:
    """Yield what a signal announces in the block."""
    told: list[dict[str, Any]] = []

    def hear(**given: Any) -> None:
        told.append(given)

    signal.connect(hear)
    try:
        yield told
    finally:
        signal.disconnect(hear)


def fail_for_good(event: Any, *_: Any) -> None:
    """Fail as if trying again could not help: a part for a handler."""
    raise PermanentError("never")


def fail_for_now(event: Any, *_: Any) -> None:
    """Fail as if the cause could go away: a part for a handler."""
    raise ConnectionError("not now")


def dead(*events: Any, **parts: Part) -> None:
    """Bring events into their inbox, with handlers that fail for good (``parts``: otherwise)."""
    deliver(*events)
    with playing(**(parts or {"note": fail_for_good})):
        dispatch()


def leave_token(queue: Queue, label: str = "shop", **which: Any) -> None:
    """Leave the partitions of a queue as a worker left them that was killed some time ago."""
    partitions.ensure_partitions(get_context(label).database)
    rows = Partition.objects.filter(context=label, queue=queue, **which)
    assert rows.update(run=uuid4())
    fall_silent()


def read_page(
    name: str = "board", size: int = 100, label: str = "shop", **options: Any
) -> tuple[list[tuple[str, int]], bool]:
    """Read a page of a subscription, and keep its checkpoint.

    Returns: streams and versions, and whether the subscription has caught up.
    """
    with follow(get_context(label), name) as cursor:
        assert cursor is not None
        rows = cursor.read(size, **options)
        cursor.save()
        return [(row.stream, row.version) for row in rows], cursor.caught_up


def read_all(*arguments: Any, **options: Any) -> list[tuple[str, int]]:
    """Read pages as `read_page` until the subscription has caught up."""
    found, caught_up = read_page(*arguments, **options)
    while not caught_up:
        page, caught_up = read_page(*arguments, **options)
        found += page
    return found


class Worker:
    """A thread with database connections of its own, which does one thing after the other."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.submit(connections.close_all)
        self._pool.shutdown()

    def start(self, function: Callable[..., T], *arguments: Any, **options: Any) -> Future[T]:
        """Begin to do something."""
        return self._pool.submit(function, *arguments, **options)

    def do(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Do something, and return its result."""
        return self.start(function, *arguments, **options).result(PATIENCE)

    @contextmanager
    def transaction(self, using: str = "default") -> Iterator[None]:
        """Keep a transaction open over several things; commit it at the end."""
        block = transaction.atomic(using=using)
        self.do(block.__enter__)
        try:
            yield
        finally:
            self.do(block.__exit__, None, None, None)


def together(*functions: Callable[[], T]) -> list[T]:
    """Do several things at the same time, in a thread each; return their results."""
    barrier = threading.Barrier(len(functions))

    def work(function: Callable[[], T]) -> T:
        barrier.wait(PATIENCE)
        try:
            return function()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=len(functions)) as pool:
        return [each.result(PATIENCE * 3) for each in [pool.submit(work, f) for f in functions]]


def eventually(condition: Callable[[], T], wanted: str) -> T:
    """Return what a condition says as soon as it says something true; ask again and again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {wanted}"
        threading.Event().wait(0.005)


def waits_for_lock() -> bool:
    """Return whether another session of this database waits for a lock."""
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            threading.Event().wait(0.15)  # asked more often than that, InnoDB repeats itself
            cursor.execute(
                "SELECT count(*) FROM information_schema.innodb_trx t"
                " JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id"
                " WHERE p.db = DATABASE() AND t.trx_state = 'LOCK WAIT'"
            )
        else:
            # What the statistics say is kept until the transaction ends.
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        return bool(cursor.fetchone()[0])


def session() -> int:
    """Return the number by which the server knows this thread's connection."""
    if connection.vendor == "mysql":
        return connection.connection.thread_id()
    return connection.connection.info.backend_pid


def end_session(number: int) -> None:
    """Have the server end a connection, which may be this one."""
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute("KILL %s", [number])
        else:
            cursor.execute("SELECT pg_terminate_backend(%s)", [number])


def end_other_sessions() -> None:
    """Have the server end all other connections to this database."""
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute(
                "SELECT id FROM information_schema.processlist"
                " WHERE db = DATABASE() AND id <> CONNECTION_ID()"
            )
        else:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        others = [number for (number,) in cursor.fetchall()]
    for number in others:
        end_session(number)
