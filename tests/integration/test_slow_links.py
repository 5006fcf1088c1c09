"""Batches that cannot pass a slow link within PUBLISH_TIMEOUT: all of their messages arrive."""

from contextlib import suppress
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

import pytest

from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import InboxMessage, OutboxMessage
from tests.shop.contracts import Sold
from tests.support.movers import come_due, put, receive, relay, states
from tests.support.outgoing import numbers
from tests.support.proxy import Proxy

pytestmark = pytest.mark.usefixtures("committed")

COUNT, SIZE = 32, 50_000
RATE = 500_000  # bytes a second: each message takes a tenth of a second, all of them three
TRIES = 20

BROKERS = [
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("rabbit", marks=pytest.mark.rabbitmq),
]


@pytest.fixture(params=BROKERS)
def link(request, settings):
    """Let the contexts talk through a broker; return a function that makes it far away, or near."""
    get = request.getfixturevalue
    url = get("redis_url") if request.param == "redis" else get("amqp_url")
    parts = urlsplit(url)
    prefix = get("redis_prefix") if request.param == "redis" else ""
    options = {"PREFIX": prefix} if prefix else get("broker").options
    with Proxy(parts.port or 5672) as proxy:
        login = parts.netloc.rpartition("@")[0]
        place = f"{login}@127.0.0.1:{proxy.port}".lstrip("@")

        def go(*, slow, timeout=1):
            entry = {
                "LOCATION": urlunsplit(parts._replace(netloc=place)) if slow else url,
                "OPTIONS": options,
            }
            settings.OUTBOX_INBOX = {
                "TRANSPORTS": {"default": entry},
                "PUBLISH_TIMEOUT": timedelta(seconds=timeout),
            }
            proxy.rate = RATE

        yield go


@pytest.fixture
def subscribed(link):
    """The link, after the depot has received for the first time: what is published is for it."""
    link(slow=False)
    receive()
    return link


def record_large(count=COUNT, size=SIZE):
    """Record messages of one key that are too large for one batch together."""
    put(*[Sold(order="x" * size, number=number) for number in range(1, count + 1)], key="a")


def until(ready, step):
    """Do something again and again until a condition is true; give up after some tries."""
    for _ in range(TRIES):
        if ready():
            break
        come_due()
        step()


def try_receive():
    """Receive; an outage ends it."""
    with suppress(TransportUnavailable):
        receive()


def none_pending():
    """Return whether the relay has nothing left to send."""
    return not OutboxMessage.objects.exclude(state="sent").exists()


def all_arrived(count=COUNT):
    """Return whether every message is in the inbox of the depot."""
    return InboxMessage.objects.filter(context="depot").count() == count


def test_a_batch_that_is_too_large_for_the_link_is_sent_in_parts(subscribed):
    """Every message is sent, in order, and no attempt is counted."""
    record_large()
    subscribed(slow=True)
    until(none_pending, relay)
    assert states() == ["sent"] * COUNT
    subscribed(slow=False)
    receive()
    assert numbers() == [*range(1, COUNT + 1)]


def test_messages_that_are_too_large_for_the_link_are_received_in_parts(subscribed):
    """Every message arrives, in order and once."""
    record_large()
    relay()
    subscribed(slow=True)
    until(all_arrived, try_receive)
    assert numbers() == [*range(1, COUNT + 1)]


def test_a_message_that_is_still_arriving_is_waited_for(subscribed):
    """The queue is not empty because nothing has arrived as a whole within half a second."""
    record_large(2, 250_000)
    relay()
    subscribed(slow=True, timeout=5)
    receive()
    assert numbers() == [1, 2]
