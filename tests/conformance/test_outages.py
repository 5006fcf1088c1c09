"""A broker that is down for a day: what it costs, what is seen of it, and what comes afterwards."""

import json
import socket
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from unittest.mock import patch

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from outbox_inbox.contexts import get_context
from outbox_inbox.models import OutboxMessage, Partition, Queue
from outbox_inbox.operations import queue_stats
from outbox_inbox.testing import DrainFailed, advance, drain
from tests.shop.contracts import Sold
from tests.support.brokers import RabbitServer
from tests.support.movers import (
    come_due,
    deliver,
    dispatch,
    picks,
    put,
    receive,
    relay,
    run_all,
    steps,
)

pytestmark = pytest.mark.usefixtures("committed")

DAY = timedelta(days=1)


class Outage:
    """A broker that all contexts use, and that is down.

    Attributes:
        why: a part of every error that it causes.
    """

    def __init__(self, server, stop):
        self.why = f"127.0.0.1:{server.port}"
        self._server = server
        self.begin = stop
        self.begin()

    def end(self):
        """Start the broker again, and let back-offs be over."""
        self._server.start()
        come_due()


@pytest.fixture
def outage(used, settings):
    """The shop and the depot know each other; then the broker is down.

    Redis is killed; RabbitMQ is stopped within its node, since it takes so long to start.
    """
    settings.OUTBOX_INBOX = {
        "TRANSPORTS": {"default": used.entry},
        "BACKOFF": {"first": timedelta(minutes=1)},  # longer than a test takes
    }
    receive()
    put(*steps(Sold, 1))
    run_all()
    assert picks("watch") == [1]
    server = used.server
    return Outage(server, server.pause if isinstance(server, RabbitServer) else server.kill)


def resting(queue):
    """Return the partition of the shop's outbox or of the depot's intake."""
    label = "shop" if queue == Queue.OUTBOX else "depot"
    return Partition.objects.get(context=label, queue=queue)


def movers_in_vain():
    """Let both sides meet the outage."""
    relay()
    drain(raise_errors=False)


@contextmanager
def no_network():
    """Fail whatever wants to connect or to send within the block; a database's driver may."""

    def fail(*_):
        raise AssertionError("a network call")

    names = ("connect", "connect_ex", "send", "sendall", "sendto", "sendmsg")
    with patch.multiple(socket.socket, **dict.fromkeys(names, fail)):
        yield


def statements_of(*numbers):
    """Return the statements that recording takes, without network calls."""
    with CaptureQueriesContext(connection) as queries, no_network():
        put(*steps(Sold, numbers))
    return [query["sql"].partition(" ")[0] for query in queries]


def test_a_day_costs_no_attempt_and_everything_arrives_in_order(outage):
    """Each back-off of a day is tried, and writers go on meanwhile."""
    elapsed, tries, last = timedelta(), 0, 1
    while elapsed < DAY:
        last += 1
        put(*steps(Sold, [last]))
        movers_in_vain()
        tries += 1
        left = resting(Queue.OUTBOX)
        assert left.outages == tries
        pause = left.retry_at - left.last_run_at + timedelta(seconds=1)
        advance(pause)
        elapsed += pause
    pending = OutboxMessage.objects.exclude(state="sent")
    assert set(pending.values_list("state", "attempts")) == {("pending", 0)}
    assert 25 <= tries <= 60  # the longest pause is an hour, shortened by a fifth at most
    outage.end()
    run_all()
    assert picks("watch") == list(range(1, last + 1))
    assert not OutboxMessage.objects.filter(attempts__gt=0).exists()
    for row in (resting(Queue.OUTBOX), resting(Queue.INTAKE)):
        assert (row.outages, row.error, row.retry_at) == (0, "", None)


def test_an_outage_is_forgotten_though_nothing_has_come_since(outage):
    """Otherwise the next one would begin with the pause that this one ended with."""
    for _ in range(3):
        movers_in_vain()
        come_due()
    assert resting(Queue.INTAKE).outages == 3
    outage.end()
    receive()
    row = resting(Queue.INTAKE)
    assert (row.outages, row.error, row.retry_at) == (0, "", None)
    with CaptureQueriesContext(connection) as queries:
        receive()
    assert len(queries) == 0  # now there is nothing to be forgotten any more


def test_a_resting_partition_asks_the_broker_nothing(outage):
    """Until its pause is over there is no try, and so nothing that would take time."""
    put(*steps(Sold, [2]))
    movers_in_vain()
    put(*steps(Sold, [3]))
    before = resting(Queue.OUTBOX).outages, resting(Queue.INTAKE).outages
    with no_network():
        assert relay().done == 0
    receive()
    assert (resting(Queue.OUTBOX).outages, resting(Queue.INTAKE).outages) == before == (1, 1)


def test_writers_notice_nothing(outage):
    """The same statements as ever, and no network call of ours."""
    outage.end()
    well = statements_of(2)
    run_all()
    outage.begin()
    put(*steps(Sold, [3]))
    movers_in_vain()
    assert statements_of(4) == well
    assert any("INSERT" in statement for statement in well)


def test_queue_stats_says_that_both_sides_rest_and_why(outage):
    """As figures, as text and as JSON; and nothing of it when it is over."""
    put(*steps(Sold, [2]))
    movers_in_vain()
    found = {
        (stats.context, each.queue): each for stats in queue_stats() for each in stats.partitions
    }
    for place in (("shop", Queue.OUTBOX), ("depot", Queue.INTAKE)):
        assert found[place].state == "backing off"
        assert outage.why in found[place].reason
        assert found[place].until is not None
    text = output("queue_stats")
    assert "shop outbox: partition 0 is backing off until" in text
    assert "depot intake: partition 0 is backing off until" in text
    assert text.count(outage.why) >= 2
    shown = json.loads(output("queue_stats", "--format", "json"))["contexts"]
    (outbox,) = shown["shop"]["outbox"]["partitions"]
    (intake,) = [
        each for each in shown["depot"]["inbox"]["partitions"] if each["queue"] == "intake"
    ]
    for each in (outbox, intake):
        assert each["state"] == "backing off"
        assert outage.why in each["reason"]
        assert each["until"]
    outage.end()
    run_all()
    moved = [get_context(label) for label in ("shop", "depot")]
    assert not any(stats.partitions for stats in queue_stats(moved))


def test_the_admin_says_that_both_sides_rest_and_why(outage):
    """In the list of partitions and on the page of each."""
    put(*steps(Sold, [2]))
    movers_in_vain()
    with superuser() as client:
        listed = client.get(reverse("admin:outbox_inbox_partition_changelist")).content.decode()
        pages = [
            client.get(reverse("admin:outbox_inbox_partition_change", args=[row.pk]))
            for row in (resting(Queue.OUTBOX), resting(Queue.INTAKE))
        ]
    assert listed.count(outage.why) >= 2
    assert listed.count("backing off") >= 2
    for page in pages:
        assert outage.why in page.content.decode()
        assert "backing off" in page.content.decode()


def test_the_commands_say_so_and_end_with_1(outage):
    """When they meet the outage, and as long as a partition backs off from it."""
    put(*steps(Sold, [2]))
    for _ in range(2):
        error = failure("drain_outbox")
        assert "outbox partition 0 of shop is backing off until" in error
        assert outage.why in error
    assert "depot" in failure("receive_messages", "--context", "depot")
    error = failure("receive_messages", "--context", "depot")
    assert "intake partition 0 of depot is backing off until" in error
    assert outage.why in error
    outage.end()
    assert output("drain_outbox").startswith("Sent 1 message")
    assert output("receive_messages", "--context", "depot").startswith("Received 1 message")
    assert output("drain_inbox").startswith("Handled")
    assert picks("watch") == [1, 2]


def test_a_drain_of_a_test_does_not_call_that_quiet(outage):
    """Also where only the intake backs off: it is unknown what there is to be received."""
    with pytest.raises(DrainFailed, match="transport of"):
        drain()
    drain(raise_errors=False)
    with pytest.raises(DrainFailed, match="depot intake: partition 0 is backing off"):
        drain()


def test_what_was_published_before_is_handled_meanwhile(outage):
    """The inbox needs no broker."""
    outage.end()
    deliver(*steps(Sold, [2]))
    receive()
    outage.begin()
    dispatch("depot")
    assert picks("watch") == [1, 2]


@contextmanager
def superuser():
    """Lend the client of a superuser; no fixture empties these tables."""
    user = get_user_model().objects.create_superuser("admin")
    client = Client()
    client.force_login(user)
    try:
        yield client
    finally:
        client.logout()
        user.delete()


def output(name, *arguments):
    """Return what a command prints."""
    out = StringIO()
    call_command(name, *arguments, stdout=out, stderr=StringIO(), no_color=True)
    return out.getvalue()


def failure(name, *arguments):
    """Return the error that a command ends with."""
    with pytest.raises(CommandError) as caught:
        output(name, *arguments)
    assert caught.value.returncode == 1
    return str(caught.value)
