"""What commands and pages say about trouble: an outage is not idle, and a back-off is not ready."""

import json
import re
from datetime import timedelta

import pytest
from django.utils import timezone

from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import Partition, Queue
from outbox_inbox.operations import queue_stats
from outbox_inbox.transports.local import LocalTransport
from tests.shop.events import Checked, Noted
from tests.support import rows
from tests.support.commands import Result
from tests.support.movers import dead, put
from tests.support.pages import act, address, list_page, page, path

pytestmark = pytest.mark.django_db


# Outages


@pytest.fixture
def outage():
    """A partition of the shop's outbox after two outages, whose next try is due since a minute."""
    past = timezone.now() - timedelta(minutes=1)
    return rows.partition(retry_at=past, outages=2, error="no route")


def test_an_outage_is_shown_until_the_next_success(outage):
    """Also when its pause is over: no message has gone out since."""
    (outbox, _) = queue_stats([get_context("shop")])
    (found,) = outbox.partitions
    assert (found.state, found.reason, found.outages) == ("backing off", "no route", 2)
    assert found.until is None


def test_queue_stats_says_that_the_next_try_after_an_outage_is_due(outage):
    """In its lines, with the number of outages in a row."""
    lines = Result("queue_stats", "--context=shop").lines
    due = "backing off (2 outages in a row; the next try is due)"
    assert f"shop outbox: partition 0 is {due}: no route" in lines


def test_the_document_of_queue_stats_counts_outages(outage):
    """Beside the state; the time of the next try is null when it is due."""
    document = json.loads(Result("queue_stats", "--context=shop", "--format=json").out)
    (found,) = document["contexts"]["shop"]["outbox"]["partitions"]
    assert (found["state"], found["until"], found["outages"]) == ("backing off", None, 2)


def test_the_admin_calls_no_partition_idle_in_an_outage(admin_client, outage):
    """Neither in the list nor on its page."""
    for shown in (list_page(admin_client, "partition"), page(admin_client, outage)):
        assert "2 outages in a row" in shown
    assert "idle" not in page(admin_client, outage)


def test_a_drain_fails_also_when_the_pause_of_its_outage_is_over(settings, monkeypatch):
    """Messages are left, and a script must not take them for sent."""

    def publish(self, source, messages):
        raise TransportUnavailable("no route")

    put(Checked(order="a", number=1))
    Result("drain_outbox"), Result("drain_inbox")
    monkeypatch.setattr(LocalTransport, "publish", publish)
    moment = timedelta(microseconds=1)
    settings.OUTBOX_INBOX = {"BACKOFF": {"first": moment, "maximum": moment, "jitter": 0}}
    result = Result("drain_outbox", "--limit=1")
    assert Partition.objects.get(context="shop", queue=Queue.OUTBOX).retry_at < timezone.now()
    assert (result.code, "no route" in result.error) == (1, True)


# Parked keys


def test_the_document_of_queue_stats_has_every_parked_key():
    """The table names the first five of them."""
    keys = [f"k{number}" for number in range(7)]
    dead(*[Noted(order=key, number=1) for key in keys])
    document = json.loads(Result("queue_stats", "--context=shop", "--format=json").out)
    parked = document["contexts"]["shop"]["inbox"]["parked"]
    assert [each["key"] for each in parked] == keys
    assert "and 2 more" in Result("queue_stats", "--context=shop").out


# Back-offs


def backing_off(make, **given):
    """Make a row that has failed once, and is tried again in five minutes."""
    idle = "pending" if make is rows.outbox_message else "ready"
    later = timezone.now() + timedelta(minutes=5, seconds=9)
    return make(state=idle, attempts=1, due_at=later, error="ValueError: no", **given)


def states(text):
    """Return what the badges of a page say."""
    return re.findall(r'class="oi-state [^"]*">([^<]*)<', text)


def test_the_inbox_says_of_a_delivery_that_it_backs_off(admin_client):
    """And until when: it is not ready before."""
    backing_off(rows.delivery)
    shown = list_page(admin_client, "inboxmessage")
    assert states(shown) == ["backing off"]
    assert "in 5 min" in shown


@pytest.mark.parametrize("make", [rows.outbox_message, rows.delivery])
def test_what_waits_is_told_that_its_head_backs_off(admin_client, make):
    """The page of a follower shows the state of the message in front of it."""
    backing_off(make, key="a", holds=True)
    follower = make(key="a", state="waiting")
    assert states(page(admin_client, follower)) == ["waiting", "backing off"]


@pytest.mark.parametrize("make", [rows.outbox_message, rows.delivery])
def test_the_question_before_a_discard_says_what_backs_off(admin_client, make):
    """It will be tried again: perhaps there is no need to discard it."""
    response = act(admin_client, "discard", backing_off(make))
    assert states(response.content.decode()) == ["backing off"]


# Processes


def at_its_start(**given):
    """Store a delivery to a process that has no instance, and is dead."""
    message = rows.inbox_message(context="ordering", type="ordering.Placed", key=given["key"])
    values = {"consumer": "ordering.watch", "state": "dead", "holds": True, "attempts": 1}
    return rows.delivery(message, **{**values, **given})


@pytest.mark.parametrize("query", [{}, {"standing": "stuck"}, {"q": "42"}])
def test_a_process_that_dies_at_its_start_is_shown(admin_client, query):
    """It has no row that could be stuck, so its delivery is shown above the list."""
    failed = at_its_start(key="42")
    assert path(failed) in list_page(admin_client, "processstate", **query)


@pytest.mark.parametrize(
    "query", [{"standing": "running"}, {"q": "43"}, {"context__exact": "shop"}, {"q": "\0"}]
)
def test_a_process_that_died_at_its_start_is_shown_where_it_was_asked_for(admin_client, query):
    """A filter or a search for others leaves it out."""
    failed = at_its_start(key="42")
    assert path(failed) not in list_page(admin_client, "processstate", **query)


def test_a_process_with_an_instance_is_not_shown_as_one_without(admin_client):
    """It is stuck itself, in the list; and a process that goes on is not shown either."""
    rows.process(key="42")
    at_its_start(key="42")
    at_its_start(key="43", state="done", holds=False)
    assert "oi-stuck" not in list_page(admin_client, "processstate")


def test_a_delivery_without_instance_is_hidden_from_who_may_not_see_deliveries(staff):
    """The permission to view processes is not that to view messages."""
    failed = at_its_start(key="42")
    client = staff()
    user = client.get(address("processstate")).wsgi_request.user
    assert path(failed) in list_page(client, "processstate")
    user.user_permissions.remove(*user.user_permissions.filter(codename="view_delivery"))
    assert path(failed) not in list_page(client, "processstate")
