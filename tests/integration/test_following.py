"""Following a stream on PostgreSQL while others write to it in every way."""

import random
import secrets
import subprocess
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection, connections, transaction

from outbox_inbox import ConcurrencyError, record, streams
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import ForeignCheckpoint
from outbox_inbox.models import StoredEvent
from outbox_inbox.operations import rebase
from outbox_inbox.streams.subscriptions import behind, follow
from tests import services
from tests.conftest import need
from tests.shop.events import Noted
from tests.support.movers import Worker, put, read_all, read_page, steps
from tests.support.postgres import PostgresServer

pytestmark = [pytest.mark.postgres, pytest.mark.usefixtures("committed")]

WRITERS, STREAMS = 16, 40


def act(sql, parameters=(), using="default"):
    """Run a statement."""
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters)


def record_in_vain(count, stream):
    """Record events in a transaction, or a savepoint, that is rolled back."""
    with transaction.atomic():
        record(*steps(Noted, count, stream), stream=stream)
        transaction.set_rollback(True)


# Other people's transactions


def test_an_open_transaction_delays_nobody_but_itself():
    """It has the first id and the first position; its event comes when it commits, all others before."""
    with Worker() as slow:
        with slow.transaction():
            slow.do(record, *steps(Noted, 2), stream="slow")
            put(*steps(Noted, 3), stream="a")
            assert read_all() == [("a", 1), ("a", 2), ("a", 3)]
            put(*steps(Noted, 1), stream="b")
            assert read_all() == [("b", 1)]
        assert read_all() == [("slow", 1), ("slow", 2)]
    assert read_all() == []


def test_an_id_taken_early_and_used_late_is_no_gap():
    """A transaction that had its id long before it wrote comes behind those it waited for."""
    with Worker() as early:
        with early.transaction():
            early.do(act, "SELECT pg_current_xact_id()")
            put(*steps(Noted, 2), stream="a")
            assert read_all() == [("a", 1), ("a", 2)]
            early.do(record, *steps(Noted, [3]), stream="a")
            assert read_all() == []
        assert read_all() == [("a", 3)]


def test_a_transaction_in_another_database_is_nobodys_business():
    """Ids are those of the whole server, but what another database holds open delays nothing here."""
    with Worker() as slow, slow.transaction("other"):
        slow.do(act, "SELECT pg_current_xact_id()", using="other")
        put(*steps(Noted, 2), stream="a")
        assert read_all() == [("a", 1), ("a", 2)]


def test_what_is_rolled_back_was_never_there():
    """Positions without an event are passed over: of a transaction, and of a savepoint."""
    record_in_vain(5, "a")
    with transaction.atomic():
        record_in_vain(5, "b")
        record(*steps(Noted, 1), stream="b")
    assert read_all() == [("b", 1)]


def test_an_old_gap_among_many_events_is_looked_up_not_walked_to():
    """One late event behind thousands that were handled is read by its transaction's id."""
    with Worker() as slow:
        with slow.transaction():
            slow.do(record, *steps(Noted, 1), stream="slow")
            for number in range(20):
                put(*steps(Noted, 500), stream=f"s{number}")
            assert len(read_all()) == 10_000
        act("ANALYZE outbox_inbox_storedevent")
        with follow(get_context("shop"), "board") as cursor:
            plan = explained(cursor)
            assert [row.stream for row in cursor.read(10)] == ["slow"]
    assert "outbox_inbox_stream_new" in plan
    assert "Seq Scan on outbox_inbox_storedevent" not in plan


def explained(cursor):
    """Return the plan of the statement that reads the next page."""
    captured = []

    def explain(execute, sql, parameters, many, context):
        if "ORDER BY s.position" in sql:
            with connection.cursor() as beside:
                beside.cursor.execute(f"EXPLAIN {sql}", parameters)
                captured.extend(row[0] for row in beside.cursor.fetchall())
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(explain):
        cursor.read(10)
    cursor.discard_progress()
    return "\n".join(captured)


# All at once


class Writer:
    """Writes until the events are used up, every time in another way."""

    def __init__(self, budget, seed):
        self.random = random.Random(seed)
        self.budget = budget

    def run(self):
        """Write transaction after transaction."""
        try:
            while (size := self.budget.take(self.random.choice([1, 1, 2, 5, 20, 60]))) > 0:
                self.budget.give(size - self.write(size))
        finally:
            connections.close_all()

    def write(self, size):
        """Write one transaction; return how many events it has left behind."""
        stream = f"s{self.random.randrange(STREAMS)}"
        way = self.random.random()
        try:
            with transaction.atomic():
                if way < 0.2:
                    act("SELECT pg_current_xact_id()")
                    self.pause()
                if way > 0.9:
                    record_in_vain(3, stream)
                expected = streams.version("shop", stream) if way < 0.5 else None
                record(*steps(Noted, size, stream), stream=stream, expected_version=expected)
                if way < 0.4:
                    self.pause()
                if 0.4 < way < 0.45:
                    transaction.set_rollback(True)
                    return 0
        except ConcurrencyError:
            return 0
        return size

    def pause(self):
        """Keep the transaction open for a moment."""
        act("SELECT pg_sleep(%s)", [self.random.random() / 50])


class Budget:
    """So many events that are still to be written, by all writers together."""

    def __init__(self, count):
        self._left = count
        self._lock = threading.Lock()

    def take(self, size):
        """Take some; fewer at the end, and none after it."""
        with self._lock:
            taken = min(size, self._left)
            self._left -= taken
            return taken

    def give(self, size):
        """Give some back."""
        with self._lock:
            self._left += size


@pytest.mark.parametrize(
    "count",
    [pytest.param(4_000, id="few"), pytest.param(100_000, id="many", marks=pytest.mark.slow)],
)
def test_nothing_is_lost_doubled_or_out_of_order_among_sixteen_writers(count):
    """Early ids, long transactions, rollbacks and version conflicts: two readers get each event once."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201  shown when it fails
    budget = Budget(count)
    writers = [
        threading.Thread(target=Writer(budget, seed + number).run) for number in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    found = defaultdict(list)
    while any(writer.is_alive() for writer in writers):
        for name, size in (("large", 500), ("small", 7)):
            found[name] += read_page(name, size)[0]
    for name in ("large", "small"):
        found[name] += read_all(name)
    stored = Counter(StoredEvent.objects.values_list("stream", "version"))
    assert sum(stored.values()) == count
    for name in ("large", "small"):
        assert Counter(found[name]) == stored
        versions = defaultdict(list)
        for stream, version in found[name]:
            versions[stream].append(version)
        assert all(each == sorted(each) for each in versions.values())


# Servers of another kind


@contextmanager
def own_server(settings) -> Iterator[PostgresServer]:
    """A server with prepared transactions, and the shop on it under the alias "apart"."""
    need(services.POSTGRES_SERVER)
    with PostgresServer(max_prepared_transactions="10") as server:
        connections.databases["apart"] = {
            **connections.databases["default"],
            "NAME": "postgres",
            "USER": "postgres",
            "HOST": "127.0.0.1",
            "PORT": str(server.port),
            "PASSWORD": "",
        }
        settings.OUTBOX_INBOX = {"CONTEXTS": {"shop": {"database": "apart"}}}
        try:
            yield server
        finally:
            connections["apart"].close()
            del connections.databases["apart"]
            delattr(connections._connections, "apart")


@pytest.fixture
def server(settings) -> Iterator[PostgresServer]:
    """The server of `own_server`."""
    with own_server(settings) as found:
        yield found


def test_a_prepared_transaction_delays_nobody_but_itself(server):
    """It has no session any more, and may be open for days; its events come when it is committed."""
    call_command("migrate", database="apart", verbosity=0)
    act("BEGIN", using="apart")
    connections["apart"].in_atomic_block = True
    record(*steps(Noted, 2), stream="slow")
    connections["apart"].in_atomic_block = False
    act("PREPARE TRANSACTION 'slow'", using="apart")
    put(*steps(Noted, 2), stream="a")
    assert read_all() == [("a", 1), ("a", 2)]
    act("COMMIT PREPARED 'slow'", using="apart")
    assert read_all() == [("slow", 1), ("slow", 2)]


def test_a_restored_database_is_refused_until_it_is_rebased(server, settings):
    """After dump and restore subscriptions go on where each of them was, with what came late."""
    settings.OUTBOX_INBOX = {}
    put(*steps(Noted, 5), stream="a")
    read_all("board", size=3)
    read_page("slow", 2)
    with Worker() as late, late.transaction():
        late.do(record, *steps(Noted, 1), stream="late")
        put(*steps(Noted, 2), stream="b")
        read_all("board")
    restore(dump(), server)
    settings.OUTBOX_INBOX = {"CONTEXTS": {"shop": {"database": "apart"}}}

    with pytest.raises(ForeignCheckpoint, match="rebase_checkpoints before anything is recorded"):
        read_all("board")
    with pytest.raises(ForeignCheckpoint):
        read_all("new")
    assert {each.subscription: each.unhandled for each in rebase()} == {"board": 1, "slow": 6}
    put(*steps(Noted, [3]), stream="b")
    assert behind(get_context("shop"), "slow").events == 7
    assert read_all("board") == [("late", 1), ("b", 3)]
    assert read_all("slow")[:3] == [("a", 3), ("a", 4), ("a", 5)]
    assert len(read_all("new")) == 9


def dump():
    """Return the tables of the test database as a script."""
    program = Path(services.POSTGRES_SERVER.url).parent / "pg_dump"
    settings = connection.settings_dict
    url = (
        f"postgresql://{settings['USER']}:{settings['PASSWORD']}@{settings['HOST'] or '127.0.0.1'}"
        f":{settings['PORT'] or 5432}/{settings['NAME']}"
    )
    found = subprocess.run([program, "--no-owner", url], capture_output=True, check=True)
    return found.stdout


def restore(script, server):
    """Run a script on a server."""
    program = Path(services.POSTGRES_SERVER.url).parent / "psql"
    url = server.url.replace("postgres://", "postgresql://")
    subprocess.run(
        [program, "-qv", "ON_ERROR_STOP=1", url],
        input=script,
        check=True,
        stdout=subprocess.DEVNULL,
    )
