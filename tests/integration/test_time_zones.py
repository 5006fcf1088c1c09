"""A time is one moment, whatever zone the project, the database or the session is in."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, connections
from django.utils import timezone

from outbox_inbox.aggregates import Repository
from outbox_inbox.models import (
    Delivery,
    DeliveryAttempt,
    InboxMessage,
    OutboxMessage,
    Partition,
    Snapshot,
)
from outbox_inbox.operations import prune, queue_stats
from outbox_inbox.queues.statements.dialects import database_time
from outbox_inbox.testing import drain
from tests.depot.models import Pick
from tests.shop.events import Checked, Noted
from tests.support.movers import failing, put, relay, run_all, steps
from tests.support.script import playing

pytestmark = pytest.mark.usefixtures("committed")

NEAR = timedelta(seconds=50)


@pytest.fixture
def stored(settings, monkeypatch):
    """Return what stores times in a zone, as the setting TIME_ZONE of the database does."""

    def store(name):
        monkeypatch.setitem(connection.settings_dict, "TIME_ZONE", name)
        forget_zone()

    yield store
    monkeypatch.undo()
    forget_zone()


def forget_zone():
    """Let Django read the setting again."""
    for name in ("timezone", "timezone_name"):
        vars(connections["default"]).pop(name, None)
    connection.close()


ZONES = [
    "stored in America/New_York",
    "stored in Asia/Kolkata",
    "stored in Pacific/Kiritimati",
    "naive in America/New_York",
    "naive in Asia/Kolkata",
    "session in -05:00",
    "session in +05:30",
]


@pytest.fixture(params=ZONES)
def zone(request, settings, stored):
    """Each way in which times may be in another zone.

    The setting of the database, a project without USE_TZ, and a session whose zone is not the one that
    Django has set, as a pooling proxy may leave it. SQLite has no sessions, and stores UTC there.
    """
    kind, _, name = request.param.split()
    if kind == "stored":
        stored(name)
    elif kind == "naive":
        settings.USE_TZ, settings.TIME_ZONE = False, name
    elif connection.vendor != "sqlite":
        setting = "TIME ZONE" if connection.vendor == "postgresql" else "time_zone ="
        with connection.cursor() as cursor:
            cursor.execute(f"SET {setting} '{name}'")
    yield
    connection.close()


def moment(value):
    """Return a time of a row as an aware one."""
    return value if timezone.is_aware(value) else timezone.make_aware(value)


def far(value):
    """Return how far a time of a row is from now."""
    return abs(moment(value) - datetime.now(UTC))


def test_what_is_scheduled_is_sent_at_its_time(zone):
    """Three hours later is not now, and a minute ago is."""
    now = datetime.now(UTC)
    put(Noted(order="later", number=1), at=now + timedelta(hours=3))
    put(Noted(order="due", number=1), at=now - timedelta(minutes=1))
    put(Noted(order="now", number=1))
    relay()
    sent = OutboxMessage.objects.filter(state="sent").values_list("key", flat=True)
    assert sorted(sent) == ["due", "now"]
    assert far(OutboxMessage.objects.get(key="now").recorded_at) < NEAR


def test_every_time_that_a_message_leaves_is_the_time_of_now(zone):
    """From the outbox of one context to the delivery in another, and in the statistics."""
    put(Checked(order="a", number=1))
    with playing(pick=failing(1)):
        run_all()
    assert Pick.objects.filter(consumer="watch").count() == 1
    for model, name in (
        (OutboxMessage, "recorded_at"),
        (OutboxMessage, "finished_at"),
        (InboxMessage, "recorded_at"),
        (InboxMessage, "received_at"),
        (Delivery, "finished_at"),
        (DeliveryAttempt, "failed_at"),
        (Delivery, "due_at"),
        (Partition, "last_run_at"),
    ):
        found = [each for each in model.objects.values_list(name, flat=True) if each is not None]
        assert found, (model, name)
        assert all(far(each) < NEAR for each in found), (model, name, found)
    assert abs(database_time(connection) - datetime.now(UTC)) < NEAR


def test_a_snapshot_was_taken_now(zone):
    """Also where the function Now() of Django is in the zone of the server."""
    orders = Repository("shop", start=Sheet, fold=Sheet.apply, stream="sheet-{}", snapshot_every=1)
    for event in steps(Noted, 2):
        with orders.atomic():
            orders.load("a").append(event)
    assert far(Snapshot.objects.get().taken_at) < NEAR


@dataclass
class Sheet:
    """The state of an aggregate."""

    key: str
    events: int = 0

    def apply(self, event):
        """Count an event."""
        self.events += 1


def test_ages_and_retention_are_counted_from_the_moment(zone):
    """A message of now is not hours old, and is not pruned within an hour."""
    put(Noted(order="a", number=1))
    (found,) = (each for each in queue_stats() if (each.context, each.queue) == ("shop", "outbox"))
    assert 0 <= found.oldest < NEAR.total_seconds()
    run_all()
    assert not any(each.total for each in prune(older_than=timedelta(hours=1)))
    assert any(each.total for each in prune(older_than=timedelta(0)))


def test_draining_until_a_time_sends_what_is_scheduled_by_then(zone):
    """And leaves what comes later."""
    now = datetime.now(UTC)
    put(Noted(order="soon", number=1), at=now + timedelta(hours=1))
    put(Noted(order="late", number=1), at=now + timedelta(hours=9))
    drain(until=now + timedelta(hours=3))
    sent = OutboxMessage.objects.filter(state="sent").values_list("key", flat=True)
    assert list(sent) == ["soon"]
