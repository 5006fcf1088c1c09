"""What the promises rest on is in the tables, however they were made, or nothing is stored in them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.checks import Tags, run_checks
from django.core.management import call_command
from django.db import connection

from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import SettingsError
from outbox_inbox.models import OutboxMessage
from outbox_inbox.queues import schema
from outbox_inbox.queues.statements.dialects import dialect
from outbox_inbox.streams.subscriptions import follow
from tests.shop.events import Noted
from tests.support.movers import count_states, dispatch, put, receive, relay
from tests.support.wire import WIRE

pytestmark = pytest.mark.usefixtures("committed")


def execute(statement):
    """Execute an SQL statement."""
    with connection.cursor() as cursor:
        cursor.execute(statement)


DAMAGE = {
    "postgresql": [
        ("ALTER TABLE outbox_inbox_storedevent DROP COLUMN xid", "the column xid"),
        ("DROP INDEX outbox_inbox_in_once", "the unique constraint outbox_inbox_in_once"),
    ],
    "sqlite": [("DROP INDEX outbox_inbox_in_once", "the unique constraint outbox_inbox_in_once")],
    "mysql": [
        (
            "ALTER TABLE outbox_inbox_inboxmessage DROP INDEX outbox_inbox_in_once",
            "the unique constraint outbox_inbox_in_once",
        ),
        (
            "ALTER TABLE outbox_inbox_delivery MODIFY `key` varchar(200)"
            " CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NULL",
            "the exact comparison of text in outbox_inbox_delivery.key",
        ),
    ],
}


@pytest.fixture(params=[0, 1])
def damage(request):
    """Tables as they are without the migrations, in a process that has not looked at them yet."""
    known = DAMAGE[connection.vendor]
    statement, lacking = known[request.param % len(known)]
    schema._complete.clear()
    execute(statement)
    yield lacking
    schema._complete.clear()
    schema.complete_schema("default")
    assert schema.schema_problems(connection) == []


USES = {
    "record": lambda: put(Noted(order="a", number=1)),
    "relay": relay,
    "dispatch": dispatch,
}


@pytest.mark.parametrize("use", USES)
def test_nothing_is_recorded_or_moved_in_tables_that_lack_a_promise(damage, use):
    """The first use is refused, the error names what is missing and the command that adds it."""
    with pytest.raises(
        SettingsError, match=r"lack .*manage\.py migrate --database default"
    ) as told:
        USES[use]()
    assert damage in str(told.value)
    assert not OutboxMessage.objects.exists()


@pytest.fixture
def wired(settings):
    """A transport that a test holds in its hands."""
    settings.OUTBOX_INBOX = WIRE


def test_nothing_is_received_into_tables_that_lack_a_promise(wired, damage):
    """A message stays with its transport."""
    with pytest.raises(SettingsError, match="lack "):
        receive()


@pytest.mark.catch_up
def test_a_subscription_is_refused_as_well(damage):
    """Without the column, PostgreSQL would say that it does not exist."""
    with pytest.raises(SettingsError, match="lack "), follow(get_context("shop"), "all"):
        pass


def test_migrating_adds_what_is_missing(damage):
    """As the error says; afterwards everything works, in the same process."""
    call_command("migrate", "outbox_inbox", verbosity=0)
    put(Noted(order="a", number=1))
    relay()
    assert count_states(OutboxMessage) == {"sent": 1}


def test_a_check_says_so(damage):
    """W012, where the database is checked."""
    found = run_checks(tags=[Tags.database], databases=["default"])
    (message,) = (each for each in found if each.id == "outbox_inbox.W012")
    assert damage in message.msg


def test_complete_tables_are_looked_at_once_in_a_process(django_assert_num_queries):
    """By one statement."""
    schema._complete.clear()
    with django_assert_num_queries(1):
        schema.require_schema("default")
    with django_assert_num_queries(0):
        schema.require_schema("default")


def test_a_database_without_the_tables_is_left_to_its_own_error(monkeypatch):
    """Before the first migration nothing is refused, and nothing is taken for complete."""
    schema._complete.clear()
    monkeypatch.setattr("outbox_inbox.queues.statements.schema._tables", lambda: ["no_such_table"])
    schema.require_schema("default")
    assert not schema._complete


def test_a_test_database_of_the_models_keeps_every_promise():
    """With ``MIGRATE: False`` a message comes in once, keys are told apart, and streams are read."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.support.unmigrated"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout.splitlines()[-1]) == {
        "lacking": [],
        "keys": [1, 1, 1],
        "twice": False,
        "followed": 3 if dialect(connection).follows_streams else None,
    }
