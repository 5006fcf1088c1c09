"""Who listens, as the database knows it: stored before a message is, confirmed, and retired."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from django.apps import apps
from django.core.management.sql import emit_post_migrate_signal
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from outbox_inbox import record
from outbox_inbox.contexts import contexts, get_context
from outbox_inbox.models import Delivery, Interest, InterestKind
from outbox_inbox.operations.running.due import due_movers
from outbox_inbox.queues import interests, statements
from outbox_inbox.queues.interests import confirm_interests
from outbox_inbox.queues.statements.dialects import database_time
from tests.shop.events import Noted
from tests.support.deployments import OlderCode
from tests.support.movers import (
    Worker,
    deliver,
    dispatch,
    put,
    receive,
    relay,
    steps,
    together,
)

WITHOUT_NOTE = OlderCode(consumers=["note"])
committed = pytest.mark.usefixtures("committed")


class Clock:
    """The clocks of this process and of the database, which a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.lead = timedelta()

    def __call__(self) -> float:
        """Return the seconds of the process."""
        return self.now

    def database_time(self, connection: BaseDatabaseWrapper) -> datetime:
        """Return the time of the database."""
        return database_time(connection) + self.lead

    def move(self, minutes: float) -> None:
        """Let time pass, for both."""
        self.now += 60 * minutes
        self.lead += timedelta(minutes=minutes)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clocks of a process that has not looked at the database yet."""
    found = Clock()
    monkeypatch.setattr(interests, "monotonic", found)
    monkeypatch.setattr(interests, "database_time", found.database_time)
    monkeypatch.setattr(interests, "_confirmed", {})
    WITHOUT_NOTE.forget()  # the clock of another test has been ahead of this one
    return found


def interest(name: str = "note") -> Interest:
    """Return what the database knows of a consumer of the shop."""
    return Interest.objects.get(kind=InterestKind.CONSUMER, name=f"shop.handlers.{name}")


def about_interests(function: Callable[[], object]) -> list[str]:
    """Return the statements that a function makes about interests, and about nothing else."""
    with CaptureQueriesContext(connection) as captured:
        function()
    found = [each["sql"] for each in captured]
    return [sql for sql in found if "outbox_inbox_interest" in sql and "_delivery" not in sql]


def put_two() -> None:
    """Record twice in one transaction."""
    with transaction.atomic():
        record(*steps(Noted, 1))
        record(*steps(Noted, [2]))


def record_and_roll_back() -> None:
    """Record in a transaction, or a savepoint, that comes to nothing."""
    with transaction.atomic():
        record(*steps(Noted, 1))
        transaction.set_rollback(True)


def watch(clock: Clock, minutes: int, between: Callable[[], object] = lambda: None) -> None:
    """Let a process of older code look at the database once a minute."""
    with WITHOUT_NOTE.running():
        for _ in range(minutes):
            confirm_interests("default")
            clock.move(1)
            between()
        confirm_interests("default")


# Stored with the first message


@committed
def test_a_process_without_a_migrate_stores_its_consumers_with_its_first_message(clock):
    """`migrate` of its code has not run: an older relay makes their deliveries all the same."""
    Interest.objects.all().delete()
    put(*steps(Noted, 1))
    with WITHOUT_NOTE.running():
        relay()
    assert Delivery.objects.filter(consumer="shop.handlers.note").count() == 1


@committed
def test_a_rollback_takes_them_back_and_the_next_message_stores_them_again(clock):
    """What was rolled back is not remembered as stored."""
    Interest.objects.all().delete()
    record_and_roll_back()
    assert not Interest.objects.exists()
    put(*steps(Noted, 1))
    assert interest().retired_at is None


@committed
def test_a_savepoint_that_is_rolled_back_takes_them_back_as_well(clock):
    """The next message of the same transaction stores them again."""
    Interest.objects.all().delete()
    with transaction.atomic():
        record_and_roll_back()
        record(*steps(Noted, 1))
    assert interest().retired_at is None


@committed
def test_the_second_message_of_a_transaction_asks_nothing_more(clock):
    """A long import by a new process does not look at each of its messages."""
    Interest.objects.all().delete()
    first = about_interests(partial(put, *steps(Noted, 1)))
    Interest.objects.all().delete()
    interests._confirmed.clear()
    assert len(about_interests(put_two)) == len(first)


@committed
def test_what_another_process_has_stored_since_a_rollback_is_looked_at_once(clock):
    """A process that only records would otherwise look before each of its messages, for ever."""
    Interest.objects.all().delete()
    record_and_roll_back()
    with patch.object(interests, "_confirmed", {}):
        confirm_interests("default")
    put(*steps(Noted, 1))
    assert about_interests(partial(put, *steps(Noted, [2]))) == []


# Nothing in the steady state


@committed
def test_record_and_the_movers_ask_nothing_in_the_steady_state():
    """What was confirmed a moment ago costs no statement."""
    confirm_interests("default")

    def work() -> None:
        put(*steps(Noted, 3))
        relay()
        dispatch()
        receive()

    assert about_interests(work) == []


@pytest.mark.django_db
def test_a_test_case_gets_no_hooks_and_no_statements(clock, django_capture_on_commit_callbacks):
    """Whatever time has passed: tests count what they call."""
    confirm_interests("default")
    clock.now += 6_000
    with django_capture_on_commit_callbacks() as hooks:
        assert about_interests(put_two) == []
    assert not [each for each in hooks if getattr(each, "func", None) is confirm_interests]


# Confirmed


@committed
@pytest.mark.parametrize("minutes", [1, 4, 7, 60])
def test_a_process_that_only_records_confirms_after_its_commits(clock, minutes):
    """Whether it records often or seldom, its consumers do not count as gone."""
    confirm_interests("default")
    clock.move(minutes)
    before = interest().confirmed_at
    put(*steps(Noted, 1))
    assert interest().confirmed_at - before > timedelta(minutes=minutes - 0.5)


@committed
def test_a_transaction_with_many_messages_confirms_once(clock):
    """One hook, not one for each message."""
    confirm_interests("default")
    clock.move(1)
    with transaction.atomic():
        for number in range(1, 10):
            record(*steps(Noted, [number]))
        hooks = [each[1] for each in connection.run_on_commit]
    assert sum("_confirmation" in getattr(each, "__qualname__", "") for each in hooks) == 1


@committed
def test_a_worker_that_has_nothing_to_do_confirms(clock):
    """In a quiet night its consumers do not count as gone."""
    confirm_interests("default")
    clock.move(5)
    before = interest().confirmed_at
    due_movers("default", ["shop"])
    assert interest().confirmed_at > before


@committed
def test_interests_are_confirmed_although_the_clock_of_the_database_was_put_back(clock):
    """What was confirmed in the future is confirmed again."""
    confirm_interests("default")
    before = interest().confirmed_at
    clock.move(1)
    clock.lead -= timedelta(hours=2)
    confirm_interests("default")
    assert interest().confirmed_at < before


# Retired


@committed
def test_what_no_process_confirms_is_retired_by_one_that_has_watched(clock, caplog):
    """It gets no more deliveries, and the log says so once."""
    with caplog.at_level(logging.WARNING, "outbox_inbox.interests"):
        watch(clock, 12)
        watch(clock, 3)
    with WITHOUT_NOTE.running():
        deliver(*steps(Noted, 1))
    assert not Delivery.objects.filter(consumer="shop.handlers.note").exists()
    assert len([each for each in caplog.messages if "'shop.handlers.note'" in each]) == 1


@committed
def test_a_process_that_has_just_begun_retires_nothing(clock):
    """It cannot know what was confirmed before."""
    clock.move(60)
    watch(clock, 9)
    assert interest().retired_at is None


@committed
def test_what_another_process_confirms_is_not_retired(clock):
    """However long the older process watches, and however seldom the other one looks."""
    newer = OlderCode()

    def confirm() -> None:
        if clock.now % 300 < 60:
            with newer.running():
                confirm_interests("default")

    watch(clock, 40, confirm)
    assert interest().retired_at is None


@committed
def test_a_process_that_was_cut_off_retires_nothing_when_it_is_back(clock):
    """During an outage of the database no process could confirm."""
    watch(clock, 5)
    clock.move(30)
    watch(clock, 5)
    assert interest().retired_at is None


@committed
def test_a_leap_of_the_clock_of_the_database_retires_nothing(clock):
    """By its time everything is old at once; the process has seen no time pass."""
    watch(clock, 3)
    clock.lead += timedelta(days=1)
    watch(clock, 3)
    assert interest().retired_at is None


@committed
def test_what_no_process_has_is_retired_although_that_clock_was_put_back(clock):
    """It was confirmed in the future, and would stay until the clock has come up to it."""
    watch(clock, 3)
    clock.lead -= timedelta(days=1)
    watch(clock, 12)
    assert interest().retired_at is not None


@committed
def test_what_a_process_has_is_not_retired_when_that_clock_is_put_back(clock):
    """The process confirms it again, by the new time."""
    newer = OlderCode()

    def confirm() -> None:
        with newer.running():
            confirm_interests("default")

    watch(clock, 3, confirm)
    clock.lead -= timedelta(days=1)
    watch(clock, 30, confirm)
    assert interest().retired_at is None


@committed
def test_a_leap_of_that_clock_retires_nothing_that_was_confirmed_lately(clock):
    """The process counts from the last time that another one has confirmed it."""
    watch(clock, 5)
    with OlderCode().running():
        confirm_interests("default")
    watch(clock, 7)
    clock.lead += timedelta(days=1)
    watch(clock, 1)
    assert interest().retired_at is None


@committed
def test_what_was_retired_comes_back_with_the_code_that_has_it(clock):
    """Before that code moves or records anything."""
    watch(clock, 12)
    deliver(*steps(Noted, 1))
    assert Delivery.objects.filter(consumer="shop.handlers.note").count() == 1


@committed
def test_what_was_renamed_does_not_come_back(clock):
    """A process of the older code still has it under its old name."""
    Interest.objects.filter(name="shop.handlers.note").update(
        renamed_to="shop.handlers.jot", retired_at=F("confirmed_at")
    )
    clock.move(1)
    confirm_interests("default")
    assert interest().retired_at is not None


@committed
def test_the_version_of_a_contract_goes_back_with_the_code(clock):
    """After the way back of a deployment a newer version is quarantined again, and not stored."""
    which = {"context": "depot", "kind": InterestKind.CONTRACT, "type": "shop.sold"}
    Interest.objects.filter(**which).update(schema_version=2)
    for _ in range(13):
        confirm_interests("default")
        clock.move(1)
    assert Interest.objects.get(**which).schema_version == 1


@committed
def test_the_version_of_a_contract_stays_while_newer_code_runs(clock):
    """The process of the older code does not take it back."""
    which = {"context": "depot", "kind": InterestKind.CONTRACT, "type": "shop.sold"}
    Interest.objects.filter(**which).update(schema_version=2)
    for _ in range(13):
        confirm_interests("default")
        clock.move(1)
        Interest.objects.filter(**which).update(
            confirmed_at=F("confirmed_at") + timedelta(minutes=1)
        )
    assert Interest.objects.get(**which).schema_version == 2


# Migrate, flush, and several at once


def remember_consumers() -> None:
    """Do what the migration does on a database without interests."""
    Interest.objects.all().delete()
    interests._confirmed.clear()
    migration = import_module("outbox_inbox.migrations.0008_interests")
    migration._remember_consumers(apps, SimpleNamespace(connection=connection))


@committed
def test_the_migration_remembers_the_consumers_of_unfinished_deliveries(clock):
    """Also those that the code does not have any more; they get no further messages."""
    deliver(*steps(Noted, 1))
    Delivery.objects.filter(consumer="shop.handlers.note").update(consumer="shop.handlers.gone")
    remember_consumers()
    assert interest("gone").retired_at is not None


@committed
def test_deliveries_after_the_migration_are_in_the_partitions_of_those_before(clock):
    """In another partition a later message of a key could be handled first."""
    deliver(*steps(Noted, 1))
    before = dict(Delivery.objects.values_list("consumer", "partition"))
    remember_consumers()
    deliver(*steps(Noted, [2]))
    after = Delivery.objects.filter(message__payload__contains='"number":2')
    assert dict(after.values_list("consumer", "partition")) == before


@committed
def test_flush_stores_what_the_code_has():
    """The tables are empty after it, and the process remembers that it has confirmed."""
    Interest.objects.all().delete()
    emit_post_migrate_signal(0, interactive=False, db="default")
    assert interest().retired_at is None


@committed
@pytest.mark.parametrize("left", [0, 3], ids=["nothing stored", "some stored"])
def test_processes_that_store_the_same_at_once_do_not_fail(clock, left):
    """Neither a deadlock nor a second row."""
    wanted = set(interests.declared("default"))
    with patch.object(interests, "_known", lambda using, found: None):
        for _ in range(4):
            kept = list(Interest.objects.order_by("id")[:left])
            Interest.objects.exclude(pk__in=[each.pk for each in kept]).delete()
            Interest.objects.update(retired_at=F("confirmed_at"))
            together(*[partial(confirm_interests, "default")] * 4)
            rows = Interest.objects.filter(retired_at=None)
            assert rows.count() == len({row.identity for row in wanted})


@committed
def test_processes_that_record_their_first_message_at_once_do_not_fail(clock):
    """The later ones wait for the first commit, and find its rows."""
    with patch.object(interests, "_known", lambda using, found: None):
        for number in range(1, 4):
            Interest.objects.all().delete()
            writers = [partial(put, Noted(order=key, number=number)) for key in "abcd"]
            assert [len(each) for each in together(*writers)] == [1, 1, 1, 1]


@committed
def test_names_are_compared_exactly():
    """Neither case nor accents nor trailing spaces make two types one."""
    names = ["shop.Noted", "shop.noted", "shop.Nötéd", "shop.Noted "]
    now = interest().confirmed_at
    for name in names:
        Interest.objects.create(
            context="x",
            kind=InterestKind.CONTRACT,
            name="",
            type=name,
            schema_version=1,
            hash=0,
            confirmed_at=now,
        )
    found = statements.select_subscribers(connection, ["shop.noted"])
    assert found == [("x", "", "shop.noted")]


@committed
def test_time_stamps_are_stored_without_time_zones_as_well(settings, clock):
    """As the project has them: USE_TZ may be off."""
    settings.USE_TZ = False
    Interest.objects.all().delete()
    confirm_interests("default")
    clock.move(1)
    confirm_interests("default")
    assert interest().retired_at is None


def test_every_sort_of_interest_is_declared():
    """Consumers, contracts, and the time-outs of processes."""
    found = {(row.kind, row.type) for row in interests.declared("default")}
    assert {
        (InterestKind.CONSUMER, "shop.Noted"),
        (InterestKind.CONTRACT, "shop.sold"),
        (InterestKind.CONSUMER, "ordering.watch.TimedOut"),
    } <= found
    assert get_context("shop") in contexts()


@pytest.mark.postgres
def test_a_mover_does_not_wait_for_a_use_case_that_stores_the_same(committed):
    """Its transaction may be long, and what it has stored is there with its messages."""
    Interest.objects.filter(context="shop").delete()
    interests._confirmed.clear()
    with Worker() as other:
        other.do(transaction.set_autocommit, False)
        other.do(Interest.objects.bulk_create, [_unconfirmed(interests)])
        interests.confirm_interests("default")
        assert not Interest.objects.filter(context="shop").exists()
        other.do(transaction.rollback)
        other.do(transaction.set_autocommit, True)
    interests.confirm_interests("default")
    assert Interest.objects.filter(context="shop").exists()


def _unconfirmed(module):
    """Return the first interest of the shop, as a row that is not stored yet."""
    row = next(each for each in module.declared("default") if each.context == "shop")
    return Interest(**row._asdict(), hash=1, confirmed_at=timezone.now())
