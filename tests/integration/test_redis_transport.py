"""``redis://`` on a real server: the format, the order, and what happens when things go wrong."""

from uuid import uuid4

import pytest

from outbox_inbox.contexts import context
from outbox_inbox.models import InboxMessage
from outbox_inbox.transports import transport
from tests.integration.helpers import (
    crash,
    crashing,
    dispatch,
    picks,
    put,
    receive,
    relay,
    steps,
    striking,
)
from tests.shop.contracts import Sold

pytestmark = [pytest.mark.redis, pytest.mark.usefixtures("committed")]


@pytest.fixture
def client(redis_url):
    """A client of the test's own."""
    import redis

    with redis.Redis.from_url(redis_url) as found:
        yield found


@pytest.fixture
def prefix(client):
    """The beginning of the names of this test's streams; they are deleted after it."""
    found = f"test-{uuid4().hex}"
    yield found
    for name in client.scan_iter(f"{found}*"):
        client.delete(name)


@pytest.fixture
def bus(settings, redis_url, prefix):
    """Let the contexts talk through Redis; called with options, it changes these."""

    def configure(location=redis_url, *, options=None, **changed):
        settings.OUTBOX_INBOX = {
            "TRANSPORTS": {
                "default": {"LOCATION": location, "OPTIONS": {"PREFIX": prefix, **(options or {})}}
            },
            **changed,
        }
        return transport("default")

    configure()
    return configure


def numbers():
    """Return the steps in the depot's inbox, in order."""
    rows = InboxMessage.objects.filter(context="depot", type="shop.sold").order_by("id")
    return [int(each[10 : each.index(",")]) for each in rows.values_list("payload", flat=True)]


def test_smoke(bus, client, prefix):
    put(*steps(Sold, 3))
    assert relay().done == 3
    assert client.xlen(f"{prefix}:shop") == 3
    print(client.xrange(f"{prefix}:shop"))
    assert receive().done == 3
    assert numbers() == [1, 2, 3]
    dispatch("depot")
    assert picks("watch") == [1, 2, 3]
    assert client.xpending(f"{prefix}:shop", "depot")["pending"] == 0
    put(*steps(Sold, [4]))
    relay()
    with crashing(), striking("receive.after_read", crash):
        receive()
    put(*steps(Sold, [5]))
    relay()
    assert receive().done == 2
    assert numbers() == [1, 2, 3, 4, 5]
    assert not transport("default").has_messages(context("depot"))
    print(list(transport("default").problems()))
    assert not transport("default").wait_for_messages([context("depot")], 0.1)
    put(*steps(Sold, [6]))
    relay()
    assert transport("default").wait_for_messages([context("depot")], 5)
    assert not transport("default").wait_for_messages([context("depot")], 0.1)
