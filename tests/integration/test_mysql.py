"""What MySQL and MariaDB do otherwise than other databases, and what the queues do about it.

Where MySQL needs other statements, these are tried on MariaDB as well.
"""

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, connection, models, transaction

from outbox_inbox import record
from outbox_inbox.checks.deployment import check_project
from outbox_inbox.checks.subscriptions import check_source
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import SettingsError
from outbox_inbox.models import (
    Delivery,
    DeliveryAttempt,
    InboxMessage,
    OutboxMessage,
    Queue,
    StoredEvent,
    table,
)
from outbox_inbox.operations import Selection, discard, repartition
from outbox_inbox.queues import statements
from outbox_inbox.queues.partitions import partition_statuses
from outbox_inbox.queues.run import partition_run
from outbox_inbox.queues.statements import ReceivedRow
from outbox_inbox.queues.statements.dialects import as_datetime, dialect
from outbox_inbox.queues.statements.lock_waits import limited_lock_wait
from outbox_inbox.queues.statements.mysql_schema import AdaptToMySQL
from outbox_inbox.streams.subscriptions import follow
from tests.shop.events import Counted, Listed, Noted
from tests.shop.models import Entry
from tests.support.handling import each_way
from tests.support.movers import (
    PATIENCE,
    Worker,
    come_due,
    deliver,
    delivery_states,
    dispatch,
    entries,
    eventually,
    failing,
    leave_token,
    put,
    relay,
    session,
    steps,
    waits_for_lock,
)
from tests.support.script import playing

pytestmark = [pytest.mark.mariadb, pytest.mark.mysql, pytest.mark.usefixtures("committed")]

ALIKE = ["a", "A", "á", "a ", " a"]
DEADLOCK = 1213, "Deadlock found when trying to get lock; try restarting transaction"
TIMEOUT = 1205, "Lock wait timeout exceeded; try restarting transaction"


@pytest.fixture(params=[pytest.param("returning", marks=pytest.mark.mariadb), "reading back"])
def either_way(request, monkeypatch):
    """Once with INSERT … RETURNING, which only MariaDB has, and once without."""
    monkeypatch.setattr(type(dialect(connection)), "returning", request.param == "returning")


def received(message_id=None, **given):
    """Return a message from outside."""
    fields = {
        "message_id": message_id or uuid4(),
        "type": "shop.Noted",
        "schema_version": 1,
        "key": "a",
        "payload": '{"number":1,"order":"a"}',
        "headers": "{}",
        "correlation_id": uuid4(),
        "causation_id": None,
        "hops": 0,
        "key_hash": 1,
        "recorded_at": "2030-01-01 00:00:00",
    }
    return ReceivedRow(**{**fields, **given})


def insert(*rows):
    """Insert messages from outside in the open transaction; return how many were new."""
    return len(statements.insert_inbox(connection, rows, "shop", "depot"))


# Text is compared exactly


def test_keys_that_look_alike_are_different_keys():
    """One that is parked stops neither those in other cases or accents nor those with spaces."""
    deliver(*(Noted(order=key, number=1) for key in ALIKE))
    with playing(note=failing(1, 2)):
        dispatch()
        deliver(*(Noted(order=key, number=2) for key in ALIKE))
        dispatch()
    # The table of the entries is one of the project's, where these names are all the same.
    handled = Entry.objects.filter(consumer="note").values_list("order", "number")
    assert sorted(handled) == sorted((key, number) for key in ALIKE[1:] for number in (1, 2))


def test_streams_that_look_alike_are_different_streams():
    """Each of them is new."""
    for name in ALIKE:
        put(Noted(order="a", number=1), stream=name, expected_version=0)
    assert StoredEvent.objects.count() == len(ALIKE)
    assert StoredEvent.objects.filter(stream="a").count() == 1


def test_every_text_is_compared_exactly():
    """All text columns of all tables have the collation that pads nothing and folds nothing."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT collation_name FROM information_schema.columns"
            " WHERE table_schema = DATABASE() AND table_name LIKE 'outbox_inbox%%'"
            " AND collation_name IS NOT NULL",
            [],
        )
        found = {name for (name,) in cursor.fetchall()}
    assert found == {"utf8mb4_nopad_bin" if connection.mysql_is_mariadb else "utf8mb4_0900_bin"}


# The schema


def constraints(model):
    """Return what a table has, by name."""
    with connection.cursor() as cursor:
        return connection.introspection.get_constraints(cursor, model._meta.db_table)


@pytest.mark.parametrize("model", [*apps.get_app_config("outbox_inbox").get_models()])
def test_every_constraint_and_whole_index_is_there(model):
    """MariaDB leaves out what is declared by expressions; the migration makes up for it."""
    there = constraints(model)
    for constraint in model._meta.constraints:
        assert there[constraint.name]["unique"], constraint.name
    whole = {index.name for index in model._meta.indexes if index.condition is None}
    assert whole <= set(there)
    assert not {index.name for index in model._meta.indexes if index.condition} & set(there)


def test_the_migration_can_be_taken_back_and_repeated(both_databases):
    """Its indexes go and come again, also when some of them are there already."""
    call_command("migrate", "outbox_inbox", "zero", verbosity=0)
    call_command("migrate", "outbox_inbox", "0002", verbosity=0)
    assert "outbox_inbox_out_state" not in constraints(OutboxMessage)
    with connection.schema_editor() as editor:
        index = models.Index(fields=["state"], name="outbox_inbox_out_state_key")
        editor.add_index(OutboxMessage, index)
    call_command("migrate", "outbox_inbox", verbosity=0)
    assert {"outbox_inbox_out_state", "outbox_inbox_out_held_key"} <= set(
        constraints(OutboxMessage)
    )
    with connection.schema_editor() as editor:
        editor.remove_index(OutboxMessage, index)
        wanted = {"outbox_inbox_out_state_key": ["state", "context", "partition", "key"]}
        AdaptToMySQL({"outboxmessage": wanted}).database_forwards(
            "outbox_inbox", editor, *_states("0002_quarantine", "0003_mysql")
        )
    columns = constraints(OutboxMessage)["outbox_inbox_out_state_key"]["columns"]
    assert columns == ["state", "context", "partition", "key"]


def _states(*names):
    from django.db.migrations.loader import MigrationLoader

    loader = MigrationLoader(connection)
    return [loader.project_state(("outbox_inbox", name)) for name in names]


def test_the_checks_of_the_database_find_nothing():
    """Django warns of what MariaDB cannot have; the app has something else instead."""
    call_command("check", "outbox_inbox", databases=["default"], fail_level="WARNING")


@pytest.mark.parametrize("level", ["repeatable read", "Serializable", None])
def test_w007_another_isolation_level(monkeypatch, level):
    """A snapshot from before the wait would hide what others have committed."""
    options = {**connection.settings_dict["OPTIONS"], "isolation_level": level}
    assert "outbox_inbox.W009" not in {found.id for found in check_project()}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    assert "outbox_inbox.W009" in {found.id for found in check_project()}


def test_a_server_that_is_too_old_is_named(monkeypatch):
    """It could not skip locked rows."""
    too_old = (10, 5, 20) if connection.mysql_is_mariadb else (8, 0, 16)
    monkeypatch.setattr(connection, "mysql_version", too_old)
    with pytest.raises(SettingsError, match=r"needs MariaDB 10\.6 or MySQL 8\.0\.17"):
        relay()


# Duplicates (rule O7)


def test_of_two_that_insert_at_once_each_id_is_new_for_one(either_way):
    """The second waits for the first, and is told which of its messages were new."""
    one, both, two = uuid4(), uuid4(), uuid4()
    with Worker() as first, Worker() as second:
        with first.transaction():
            assert first.do(insert, received(one), received(both)) == 2
            late = second.start(transaction.atomic(insert), received(both), received(two))
            eventually(waits_for_lock, "the second waits for the first")
        assert late.result(PATIENCE) == 1
    assert set(InboxMessage.objects.values_list("message_id", flat=True)) == {one, both, two}


def test_an_id_that_was_rolled_back_is_new_for_the_second(either_way):
    """Nothing is remembered of what was never committed."""
    both = uuid4()
    with Worker() as first, Worker() as second:
        with first.transaction():
            first.do(insert, received(both))
            late = second.start(transaction.atomic(insert), received(both), received())
            eventually(waits_for_lock, "the second waits for the first")
            first.do(transaction.set_rollback, True)
        assert late.result(PATIENCE) == 2


def test_an_id_twice_in_one_batch_is_stored_once(either_way):
    """The first of them stands."""
    twice = uuid4()
    with transaction.atomic():
        assert insert(received(twice, key="first"), received(), received(twice, key="second")) == 2
    assert InboxMessage.objects.get(message_id=twice).key == "first"


def test_what_was_moved_before_is_left_out(either_way):
    """Only the new messages of a batch get deliveries."""
    put(*steps(Noted, 3))
    ids = list(OutboxMessage.objects.order_by("id").values_list("id", flat=True))
    with transaction.atomic():
        assert len(statements.move_to_inbox(connection, ids[1:2], "shop", "shop")) == 1
        new = statements.move_to_inbox(connection, ids, "shop", "shop")
    moved = InboxMessage.objects.filter(pk__in=new).order_by("pk")
    assert [row.payload for row in moved] == [
        row.payload for row in OutboxMessage.objects.exclude(pk=ids[1]).order_by("pk")
    ]


def test_everything_is_handled_once_and_in_order(either_way):
    """Through the whole flow, with streams and each way to handle."""
    for event in (Noted, Counted, Listed):
        put(*steps(event, 5), stream=event.__name__)
    relay()
    dispatch()
    assert [entries(name) for name in ("note", "count", "enlist")] == [[1, 2, 3, 4, 5]] * 3
    assert set(delivery_states()) == {"done"}


def test_an_error_that_is_no_duplicate_is_raised(either_way):
    """INSERT IGNORE would cut the text and go on."""
    with pytest.raises(DatabaseError, match="too long"), transaction.atomic():
        insert(received(type="x" * 201))
    assert not InboxMessage.objects.exists()


# Locks


def test_a_use_case_that_takes_its_time_holds_nobody_up():
    """Its rows are inserted and not committed: movers and operators do not wait for them."""
    put(*steps(Noted, 2), at=None)
    relay()
    with playing(note=failing(1, 2)):
        dispatch()
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
    with Worker() as slow, slow.transaction():
        slow.do(record, *(Noted(order=str(number), number=1) for number in range(20)))
        slow.do(insert, *(received() for _ in range(3)))
        come_due()
        dispatch()
        put(*steps(Noted, [3]))
        assert relay().done == 1
        repartition()
        dispatch()
        assert discard(Selection(context="shop", key="b"), "gone", unfinished=True).total == 0
    connection.close()
    assert entries() == [1, 2, 3]


def test_an_update_passes_over_rows_that_are_not_committed():
    """By an index, as in a backlog; a scan of the whole table would not wait for them."""
    put(*steps(Noted, 2))
    by_index = f"{table(OutboxMessage)} FORCE INDEX (outbox_inbox_out_state)"
    with Worker() as slow, slow.transaction():
        slow.do(record, *(Noted(order=str(number), number=1) for number in range(20)))
        with transaction.atomic(), limited_lock_wait(connection, 1):
            where = "state = 'pending' AND context = %s"
            changed = dialect(connection).update_rows(
                connection, by_index, "attempts = 1", where, ["shop"]
            )
    assert changed == 2


class Rival(Worker):
    """Another transaction, with more to lose, that meets a handler in a deadlock."""

    def __init__(self):
        super().__init__()
        self.ids = [
            Entry.objects.create(consumer="rival", order="r", number=number).pk for number in (1, 2)
        ]
        self.met = False

    def meet(self, *_):
        """Get into a deadlock in the open transaction of a handler, which loses; once."""
        if self.met:
            return
        self.met = True
        first, second = self.ids
        lock = threading.Event()

        def take():
            with transaction.atomic():
                Entry.objects.bulk_create(
                    Entry(consumer="rival", order="r", number=number) for number in range(3_000)
                )
                Entry.objects.filter(pk=second).update(number=3)
                lock.set()
                Entry.objects.filter(pk=first).update(number=3)

        Entry.objects.filter(pk=first).update(number=4)
        taken = self.start(take)
        assert lock.wait(PATIENCE)
        eventually(waits_for_lock, "the rival waits for the handler")
        try:
            # Below the ORM, so that Django does not know of it.
            with connection.cursor() as cursor:
                cursor.execute("UPDATE shop_entry SET number = 4 WHERE id = %s", [second])
        finally:
            taken.result(PATIENCE)


@each_way
def test_a_deadlock_costs_no_attempt(consumer, event):
    """The database has chosen this transaction to let another go on: it is repeated, at once."""
    deliver(*steps(event, 2))
    with Rival() as rival, playing(**{consumer: rival.meet}):
        assert dispatch().busy == 1
        assert not DeliveryAttempt.objects.exists()
        assert set(Delivery.objects.values_list("attempts", flat=True)) == {0}
        dispatch()
    assert entries(consumer) == [1, 2]
    assert set(delivery_states(consumer)) == {"done"}


def test_a_swallowed_deadlock_is_found_out():
    """All that the transaction did before is undone, and what it did afterwards must not stay."""
    deliver(*steps(Noted, 1))

    with Rival() as rival:

        def swallow(event):
            try:
                rival.meet()
            except OperationalError:
                Entry.objects.create(consumer="note", order="a", number=99)

        with playing(note=swallow):
            assert dispatch().busy == 1
            dispatch()
    assert entries() == [1]
    assert not DeliveryAttempt.objects.exists()


def test_a_deadlock_in_a_careful_run_costs_no_attempt():
    """Its attempt was counted before anything could happen, and is taken back."""
    deliver(*steps(Noted, 1))
    leave_token(Queue.INBOX)
    with Rival() as rival, playing(note=rival.meet):
        assert dispatch().busy == 1
        assert Delivery.objects.get(consumer__endswith="note").attempts == 0
        dispatch()
    assert entries() == [1]


@pytest.mark.parametrize("error", [DEADLOCK, TIMEOUT], ids=["deadlock", "timeout"])
@pytest.mark.parametrize(
    ("mover", "statement", "event"),
    [
        (dispatch, "claim_delivery", Noted),
        (dispatch, "lock_partition", Counted),
        (dispatch, "mark_done", Counted),
        (dispatch, "mark_done", Listed),
        (relay, "select_pending", Noted),
        (relay, "move_to_inbox", Noted),
        (relay, "mark_sent", Noted),
    ],
)
def test_our_own_statements_are_repeated(monkeypatch, error, mover, statement, event):
    """An error of the database in claiming or marking is no message's, and costs no attempt."""
    put(*steps(event, 2))
    if mover is dispatch:
        relay()
    ask, told = getattr(statements, statement), []

    def fail_once(*arguments, **options):
        found = ask(*arguments, **options)
        if not told:
            told.append(statement)
            raise OperationalError(*error)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(statements, statement, fail_once)
        assert mover().busy == 1
    assert told == [statement]
    assert set(Delivery.objects.values_list("attempts", flat=True)) <= {0}
    assert set(OutboxMessage.objects.values_list("attempts", flat=True)) == {0}
    relay()
    dispatch()
    name = {Noted: "note", Counted: "count", Listed: "enlist"}[event]
    assert entries(name) == [1, 2]


def test_a_handler_that_waits_too_long_for_a_lock_has_failed():
    """It may do so each time, and must not stop the other keys of its partition for ever."""
    deliver(*steps(Noted, 1))

    def wait(event):
        raise OperationalError(*TIMEOUT)

    with playing(note=wait):
        assert dispatch().failed == 1
    assert Delivery.objects.get(consumer__endswith="note").attempts == 1


def test_the_session_is_watched_while_it_has_a_partition(settings):
    """The server ends it when it freezes; the project's own limit comes back."""
    settings.OUTBOX_INBOX = {"FROZEN_AFTER": timedelta(seconds=76.5)}
    deliver(*steps(Noted, 1))
    row = next(each for each in partition_statuses(get_context("shop"), Queue.INBOX) if each.ready)
    with connection.cursor() as cursor:
        cursor.execute(f"SET SESSION {dialect(connection).idle_limit} = 5000")
    mine = session()
    with partition_run(get_context("shop"), row):
        assert _idle_limit() == 77
    assert (_idle_limit(), session()) == (5000, mine)
    connection.close()


def _idle_limit():
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT @@SESSION.{dialect(connection).idle_limit}")
        return cursor.fetchone()[0]


# Time


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "UTC"])
def test_times_are_stored_as_django_stores_them(settings, zone):
    """Without USE_TZ in local time, whatever zone the server is in."""
    settings.USE_TZ, settings.TIME_ZONE = False, zone
    connection.close()
    (envelope,) = put(Noted(order="a", number=1))
    stored = OutboxMessage.objects.get().recorded_at
    assert stored.tzinfo is None
    assert as_datetime(connection, stored) == envelope.time
    assert relay().done == 1


NO_STREAM = "catch-up subscriptions need postgresql or sqlite"


def test_a_subscription_is_refused_with_the_reason():
    """MySQL does not say what a snapshot has seen, so no stream is followed, rather than wrongly."""
    with pytest.raises(SettingsError, match=NO_STREAM), follow(get_context("shop"), "board"):
        pass


def test_a_relay_refuses_a_stream_as_the_source(settings):
    """The outbox stays it: what is recorded there is sent, whatever the settings say."""
    settings.OUTBOX_INBOX = {"CONTEXTS": {"shop": {"source": "stream"}}}
    put(Noted(order="a", number=1), stream="a")
    assert relay().done == 1
    with pytest.raises(SettingsError, match=NO_STREAM):
        repartition()


def test_a_stream_as_the_source_is_refused_by_a_check(settings):
    """E010 names the context, the database and its vendor."""
    settings.OUTBOX_INBOX = {"CONTEXTS": {"shop": {"source": "stream"}}}
    (found,) = check_source(get_context("shop"))
    assert found.id == "outbox_inbox.E010"
    assert "its database 'default' is mysql" in found.msg
