"""``amqp://``: a real RabbitMQ between two contexts, with exchanges and queues of the test's own."""

from uuid import uuid4

import kombu
import pytest

from outbox_inbox.models import InboxMessage
from tests.integration.helpers import (
    dispatch,
    picks,
    put,
    receive,
    relay,
    steps,
)
from tests.shop.contracts import Sold

pytestmark = [pytest.mark.rabbitmq, pytest.mark.usefixtures("committed")]


class Broker:
    """The RabbitMQ of one test, as somebody sees it who is no context."""

    def __init__(self, url):
        self.url = url
        unique = uuid4().hex[:8]
        self.options = {"PREFIX": f"test-{unique}", "QUEUE_PREFIX": f"test-{unique}-inbox"}
        self.exchange, self.queue = f"test-{unique}.shop", f"test-{unique}-inbox.depot"
        self.connection = kombu.Connection(url)
        self.channel = self.connection.channel()

    def setting(self, url=None, **options):
        """Return OUTBOX_INBOX for this broker."""
        entry = {"LOCATION": url or self.url, "OPTIONS": {**self.options, **options}}
        return {"TRANSPORTS": {"default": entry}}

    def ready(self):
        """Return how many messages wait in the depot's queue."""
        return self.channel.queue_declare(self.queue, passive=True).message_count

    def close(self):
        """Remove what the test made."""
        channel = self.connection.channel()
        channel.queue_delete(self.queue)
        channel.exchange_delete(self.exchange)
        self.connection.release()


@pytest.fixture
def broker(amqp_url):
    """The RabbitMQ, with exchanges and queues of this test only."""
    made = Broker(amqp_url)
    yield made
    made.close()


@pytest.fixture
def amqp(broker, settings):
    """The shop and the depot talk through RabbitMQ."""
    settings.OUTBOX_INBOX = broker.setting()
    return broker


def inbox():
    """Return the numbers in the depot's inbox, in order."""
    rows = InboxMessage.objects.filter(context="depot").order_by("id")
    return [
        int(payload.split(":")[1].split(",")[0])
        for payload in rows.values_list("payload", flat=True)
    ]


def test_a_contract_goes_through_rabbitmq(amqp):
    """Published, received and handled, in order."""
    put(*steps(Sold, 5))
    assert relay().done == 5
    assert receive().done == 5
    dispatch("depot")
    assert picks("watch") == [1, 2, 3, 4, 5]
