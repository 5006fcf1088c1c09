"""Two contexts on one database have the same keys: what fails in one does not touch the other."""

import pytest
from django.db import connection

from outbox_inbox.models import Delivery, OutboxMessage
from outbox_inbox.queues import statements
from tests.depot.events import Wanted
from tests.support.movers import come_due, put, relay
from tests.support.relaying import Log, not_number, sold
from tests.support.rows import delivery, inbox_message, outbox_message
from tests.support.script import playing

pytestmark = pytest.mark.usefixtures("committed")

WATCH = "watch"  # a process may have this name in each of two contexts


def test_a_refused_message_holds_no_key_of_another_context(log: Log) -> None:
    """Rule O3 is that of a context's outbox: the same key of another one is sent at once."""
    sold(1)
    with playing(publish=not_number(1)):
        relay()
    put(Wanted(order="a", number=1))
    assert relay("depot").done == 1


def test_a_message_that_goes_at_last_frees_no_key_of_another_context(log: Log) -> None:
    """The follower of another context waits on: the message before it has not gone."""
    outbox_message(context="depot", key="a", holds=True, state="dead")
    outbox_message(context="depot", key="a", state="waiting")
    sold(1)
    with playing(publish=not_number(1)):
        relay()
    come_due()
    relay()
    assert OutboxMessage.objects.filter(context="depot", state="waiting").count() == 1


def test_a_failed_delivery_holds_no_key_of_another_context() -> None:
    """Rule O6 is that of a context's consumer, also where two contexts have one of the same name."""
    delivery(inbox_message(key="a"), consumer=WATCH, holds=True, attempts=1, error="no")
    delivery(inbox_message(key="a", context="depot"), consumer=WATCH)
    (row,) = statements.select_ready(connection, "depot", 0, 10)
    assert not row.blocked


def test_a_delivery_that_is_done_at_last_frees_no_key_of_another_context() -> None:
    """The follower of another context waits on, also for a consumer of the same name."""
    held = delivery(inbox_message(key="a"), consumer=WATCH, state="waiting")
    other = delivery(inbox_message(key="a", context="depot"), consumer=WATCH, state="waiting")
    statements.unblock_deliveries(connection, "shop", 0, [(WATCH, "a")])
    states = dict(Delivery.objects.values_list("pk", "state"))
    assert states == {held.pk: "ready", other.pk: "waiting"}
