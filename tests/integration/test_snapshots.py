"""Snapshots: a shortcut that leads where the stream leads, or is not taken."""

from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outbox_inbox import ConcurrencyError, streams
from outbox_inbox.aggregates import Repository, forget_snapshots, retry_on_conflict
from outbox_inbox.models import Snapshot, StoredEvent
from outbox_inbox.signals import snapshot_ignored, snapshot_refused
from tests.shop.events import Closed, Noted
from tests.support.movers import PATIENCE, Worker, put, steps, together

pytestmark = pytest.mark.usefixtures("committed")


@dataclass
class Order:
    """A state with something of everything."""

    order_id: str
    numbers: list[int] = field(default_factory=list)
    total: Decimal = Decimal(0)
    last: Noted | None = None
    closed: bool = False

    def apply(self, event):
        """Take in the next event."""
        match event:
            case Noted():
                self.numbers.append(event.number)
                self.total += Decimal(event.number) / 8
                self.last = event
            case Closed():
                self.closed = True


def orders(every=3, version=1, start=Order, fold=Order.apply):
    """Return a repository with snapshots."""
    terms = {"snapshot_every": every, "snapshot_version": version}
    return Repository("shop", start=start, fold=fold, stream="order-{}", **terms)


ORDERS = orders()
PLAIN = Repository("shop", start=Order, fold=Order.apply, stream="order-{}")


def append(*events, key="a", repository=ORDERS):
    """Load, and append in a transaction of its own."""
    with repository.atomic():
        repository.load(key).append(*events)


def append_each(number, **where):
    """Append events one by one."""
    for event in steps(Noted, number):
        append(event, **where)


def filled(number=5):
    """Append one by one, so that there is a snapshot; return it."""
    append_each(number)
    return Snapshot.objects.get()


def read_versions(repository=ORDERS, key="a"):
    """Return the versions that loading an aggregate reads from its stream."""
    seen = []

    def reading(*arguments, **options):
        for each in read(*arguments, **options):
            seen.append(each[1])
            yield each

    read = streams.events
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "events", reading)
        repository.load(key)
    return seen


@pytest.fixture
def ignored():
    """What is announced of snapshots that are ignored."""
    announced = []

    def hear(signal, sender, **measures):
        announced.append(measures)

    snapshot_ignored.connect(hear)
    yield announced
    snapshot_ignored.disconnect(hear)


@pytest.fixture
def refused():
    """What is announced of states of which no snapshot can be taken."""
    announced = []

    def hear(signal, sender, **measures):
        announced.append(measures)

    snapshot_refused.connect(hear)
    yield announced
    snapshot_refused.disconnect(hear)


def loads_as_from_scratch(repository=ORDERS, key="a"):
    """Return whether the snapshot makes no difference."""
    with_snapshot, without = repository.load(key), PLAIN.load(key)
    return (with_snapshot.state, with_snapshot.version) == (without.state, without.version)


# Taking them


def test_a_snapshot_is_taken_when_so_many_events_were_folded():
    """With the append that comes after the third event, and again after three more."""
    versions = []
    for event in steps(Noted, 8):
        append(event)
        versions.append(list(Snapshot.objects.values_list("version", flat=True)))
    assert versions == [[], [], [], [3], [3], [3], [6], [6]]


def test_without_the_option_there_is_none():
    """Snapshots are asked for."""
    append_each(8, repository=PLAIN)
    assert not Snapshot.objects.exists()


def test_loading_alone_writes_nothing():
    """So it can be done where nothing may be written."""
    put(*steps(Noted, 8), stream="order-a")
    with CaptureQueriesContext(connection) as queries:
        ORDERS.load("a")
    assert all(each["sql"].startswith("SELECT") or "CURSOR" in each["sql"] for each in queries)
    assert not Snapshot.objects.exists()


def test_only_what_came_after_the_snapshot_is_read():
    """That is what it is for."""
    filled(5)
    assert read_versions() == [4, 5]


def test_each_stream_has_its_own():
    """And one only."""
    for key in ("a", "b"):
        append_each(9, key=key)
    found = list(Snapshot.objects.order_by("stream").values_list("stream", "version"))
    assert found == [("order-a", 6), ("order-b", 6)]


def test_what_a_decision_changes_in_the_state_is_in_no_snapshot():
    """It holds what the events say, though the state was handed out before it was stored."""
    put(*steps(Noted, 4), stream="order-a")
    with ORDERS.atomic():
        order = ORDERS.load("a")
        order.state.numbers.append(999)
        order.append(Noted(order="a", number=5))
    assert Snapshot.objects.get().version == 4
    assert loads_as_from_scratch()


def test_the_payload_is_canonical_json():
    """As that of an event: readable by people, and by other programs."""
    assert filled(4).payload == (
        '{"closed":false,"last":{"number":3,"order":"a"},"numbers":[1,2,3],'
        '"order_id":"a","total":"0.750"}'
    )


def spoil(order, event):
    """Fold an event into a total that no snapshot can hold."""
    order.total = float("nan")


def test_a_state_that_cannot_be_stored_goes_on_without_a_snapshot(refused):
    """The append succeeds, and the announcement names the stream and the field."""
    append_each(3)
    append(Noted(order="a", number=4), repository=orders(fold=spoil))
    assert PLAIN.load("a").version == 4
    assert not Snapshot.objects.exists()
    (found,) = refused
    error = found.pop("error")
    assert found == {"context": "shop", "stream": "order-a", "version": 3}
    assert error.startswith(
        "InvalidSnapshot: a snapshot of Order cannot be stored: total: float where Decimal"
    )


def test_a_state_that_cannot_be_stored_is_announced_once_for_so_many_events(refused):
    """Loading an aggregate a thousand times does not fill the log."""
    spoilt = orders(fold=spoil)
    for event in steps(Noted, 9):
        append(event, repository=spoilt)
        spoilt.load("a")
    assert [each["version"] for each in refused] == [3, 6, 9]


def test_the_refused_streams_that_a_repository_remembers_are_limited(refused, monkeypatch):
    """A process that loads many spoilt aggregates does not grow without end."""
    monkeypatch.setattr("outbox_inbox.aggregates.repository._REMEMBERED", 2)
    spoilt = orders(fold=spoil)
    for key in "bcd":
        append_each(3, key=key)
    for key in "bcdb":
        spoilt.load(key)
    assert [each["stream"][-1] for each in refused] == ["b", "c", "d", "b"]


@dataclass
class Alias:
    """A state of which two fields hold one list."""

    order_id: str
    lines: list[int] = field(default_factory=list)
    open_lines: list[int] = field(default_factory=list)

    def apply(self, event):
        """Take in the next event: nothing is closed at first."""
        if event.number == 1:
            self.open_lines = self.lines
        self.lines.append(event.number)


def test_a_state_with_two_names_of_one_list_is_not_taken_for_one_with_two_lists(refused):
    """An aggregate with snapshots equals one without, also when its fields share a list."""
    shot = orders(every=2, start=Alias, fold=Alias.apply)
    append_each(6, repository=shot)
    plain = orders(every=None, start=Alias, fold=Alias.apply).load("a").state
    assert shot.load("a").state == plain
    assert "open_lines: the same list as lines" in refused[0]["error"]


def test_a_class_that_cannot_be_stored_is_refused_before_a_snapshot_is_due():
    """The first test that loads one finds it."""

    @dataclass
    class Odd:
        order_id: str
        tags: set[str] = field(default_factory=set)

    with pytest.raises(TypeError, match=r"Odd\.tags: set\[str\] is not supported"):
        orders(start=Odd, fold=lambda *_: None).load("a")


def test_a_state_that_becomes_another_class_has_no_snapshot(refused):
    """It would never be used."""
    put(*steps(Noted, 3), stream="order-a")
    assert orders(fold=lambda *_: {}).load("a").version == 3
    assert "fold returned a dict" in refused[0]["error"]


# Never other than the stream


COMMANDS = st.lists(
    st.tuples(
        st.sampled_from(["append", "fail", "redeploy", "forget"]),
        st.lists(
            st.builds(Noted, order=st.just("a"), number=st.integers(-(10**9), 10**9))
            | st.builds(Closed, order=st.just("a"), number=st.integers(0, 9)),
            min_size=1,
            max_size=4,
        ),
    ),
    max_size=12,
)
NUMBERS = count()


@settings(max_examples=60, suppress_health_check=[*HealthCheck])
@given(every=st.integers(1, 6), commands=COMMANDS)
def test_folding_with_snapshots_equals_folding_from_the_beginning(every, commands):
    """Whatever is appended, rolled back, deployed anew or deleted in between."""
    key, version, appended = f"h{next(NUMBERS)}", 1, 0
    model = Order(key)
    for command, events in commands:
        repository = orders(every, version)
        if command == "append":
            append(*events, key=key, repository=repository)
            appended += len(events)
            for event in events:
                model.apply(event)
        elif command == "fail":
            with transaction.atomic():
                repository.load(key).append(*events)
                transaction.set_rollback(True)
        elif command == "redeploy":
            version += 1
        else:
            forget_snapshots("shop", f"order-{key}")
        for each in (orders(every, version), orders(every, version + 1), PLAIN):
            loaded = each.load(key)
            assert (loaded.state, loaded.version) == (model, appended)


def test_an_append_that_is_rolled_back_leaves_no_snapshot():
    """Nothing of it is ahead of the stream."""
    put(*steps(Noted, 4), stream="order-a")
    with transaction.atomic():
        order = ORDERS.load("a")
        order.append(Noted(order="a", number=5))
        assert Snapshot.objects.exists()
        transaction.set_rollback(True)
    assert not Snapshot.objects.exists()
    assert loads_as_from_scratch()


def test_an_append_that_is_refused_leaves_no_snapshot():
    """The transaction goes on, and commits something else."""
    put(*steps(Noted, 4), stream="order-a")
    stale = ORDERS.load("a")
    put(*steps(Noted, [5]), stream="order-a")
    with ORDERS.atomic(), pytest.raises(ConcurrencyError):
        stale.append(Noted(order="a", number=6))
    assert not Snapshot.objects.exists()


def test_a_snapshot_of_events_that_were_rolled_back_is_ignored(ignored):
    """A use case kept what it had loaded over a rollback, and the stream went another way."""
    with transaction.atomic():
        point = transaction.savepoint()
        put(*steps(Noted, 3), stream="order-a")
        kept = ORDERS.load("a")
        transaction.savepoint_rollback(point)
        put(*steps(Noted, [7, 8, 9]), stream="order-a")
        kept.append(Noted(order="a", number=10))
    assert Snapshot.objects.get().version == 3
    assert loads_as_from_scratch()
    assert ignored[0]["error"] == "the stream does not have the event that it ends with"


def test_a_snapshot_ahead_of_its_stream_is_ignored(ignored):
    """The stream was restored from a backup, and the snapshot was not."""
    filled(4)
    StoredEvent.objects.filter(version__gte=3).delete()
    assert ORDERS.load("a").state.numbers == [1, 2]
    assert ignored == [
        {
            "context": "shop",
            "stream": "order-a",
            "version": 3,
            "error": "the stream does not have the event that it ends with",
        }
    ]


def test_a_snapshot_of_a_stream_that_was_written_anew_is_ignored(ignored):
    """It is bound to the very event that it ends with, not only to the number."""
    filled(4)
    StoredEvent.objects.filter(version=3).update(message_id=uuid4())
    assert loads_as_from_scratch()
    assert len(ignored) == 1


@pytest.mark.parametrize(
    "payload",
    ["", "{", "null", "[]", "{}", '{"order_id":7}', '{"order_id":"a","numbers":["1"]}'],
)
def test_a_snapshot_that_cannot_be_read_is_ignored_and_replaced(payload, ignored):
    """Damaged or cut off: the stream is read, a signal reports it, the next one is good again."""
    filled(4)
    Snapshot.objects.update(payload=payload)
    assert loads_as_from_scratch()
    assert ignored[0]["error"].startswith("UnreadableMessage: ")
    append(Noted(order="a", number=5))
    assert (Snapshot.objects.get().version, loads_as_from_scratch()) == (4, True)
    assert len(read_versions()) == 1


def test_a_snapshot_of_another_schema_is_ignored_in_silence_and_replaced(ignored):
    """After a deployment that is nothing to worry about."""
    filled(4)
    newer = orders(version=2)
    assert read_versions(newer) == [1, 2, 3, 4]
    append(Noted(order="a", number=5), repository=newer)
    assert Snapshot.objects.get().schema_version == 2
    assert (read_versions(newer), read_versions()) == ([5], [1, 2, 3, 4, 5])
    assert ignored == []


def test_a_snapshot_of_other_fields_is_ignored_though_nobody_said_so(ignored):
    """A field more, with a default, would otherwise be taken for what the events have made."""

    @dataclass
    class Wider(Order):
        notes: int = 0

        def apply(self, event):
            """Also count."""
            super().apply(event)
            self.notes += 1

    filled(4)
    assert orders(start=Wider, fold=Wider.apply).load("a").state.notes == 4
    assert ignored == []


def test_an_older_event_need_not_be_readable_once_it_is_in_a_snapshot():
    """Its class may go; without the snapshot, reading it is an error as ever."""
    filled(5)
    StoredEvent.objects.filter(version=1).update(type="shop.Gone")
    assert ORDERS.load("a").state.numbers == [1, 2, 3, 4, 5]


def test_snapshots_can_be_deleted_at_any_time():
    """One, or all of a context; they are taken anew."""
    for key in ("a", "b"):
        append_each(4, key=key)
    assert forget_snapshots("shop", "order-a") == 1
    assert forget_snapshots("depot") == 0
    assert loads_as_from_scratch()
    assert forget_snapshots("shop") == 1
    append(Noted(order="a", number=5))
    assert Snapshot.objects.get().stream == "order-a"


# Several at once


@pytest.mark.postgres
@pytest.mark.mariadb
@pytest.mark.mysql
def test_a_snapshot_does_not_go_back_to_an_older_version():
    """Of two who have loaded, the one with the older state is refused, snapshot and all."""
    put(*steps(Noted, 3), stream="order-a")
    older = ORDERS.load("a")
    put(*steps(Noted, [4]), stream="order-a")
    with Worker() as other, other.transaction():
        other.do(lambda: ORDERS.load("a").append(Noted(order="a", number=5)))

        def append_late():
            with ORDERS.atomic():
                older.append(Noted(order="a", number=9))

        with Worker() as late:
            refused = late.start(append_late)
            assert isinstance(refused.exception(PATIENCE), ConcurrencyError)
    assert (Snapshot.objects.get().version, ORDERS.load("a").version) == (4, 5)


@pytest.mark.postgres
@pytest.mark.mariadb
@pytest.mark.mysql
def test_a_snapshot_that_is_not_committed_is_seen_by_nobody():
    """Others load what is committed, and are neither wrong nor waiting."""
    put(*steps(Noted, 4), stream="order-a")
    with Worker() as writer, writer.transaction():
        writer.do(lambda: ORDERS.load("a").append(Noted(order="a", number=5)))
        assert (ORDERS.load("a").version, Snapshot.objects.exists()) == (4, False)


def test_many_who_append_at_once_keep_the_snapshots_true():
    """Four threads at two streams, with a snapshot every other event."""
    repository = orders(every=2)

    @retry_on_conflict(attempts=200)
    def note(key, number):
        append(Noted(order=key, number=number), key=key, repository=repository)

    def work():
        for number in range(12):
            note("ab"[number % 2], number)

    together(work, work, work, work)
    for key in "ab":
        assert loads_as_from_scratch(repository, key)
        assert repository.load(key).version == 24
        # It may be one later: a reader of an older snapshot may then read the newest events.
        assert Snapshot.objects.get(stream=f"order-{key}").version in {22, 23}
