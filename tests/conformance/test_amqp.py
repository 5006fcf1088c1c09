"""``amqp://`` against a RabbitMQ of its own that is killed, paused, cut off, and silent."""

from contextlib import contextmanager
from uuid import uuid4

import pytest

from outbox_inbox.testing.conformance import scene
from outbox_inbox.testing.conformance.publisher.contracts import Whispered
from outbox_inbox.testing.conformance.scene import LABELS
from tests.conformance.conftest import Brokered

pytestmark = pytest.mark.rabbitmq

HEADER = b"cloudEvents:id"
BASIC_ACK = b"\x00\x3c\x00\x50"  # class 60, method 80


class TestAmqp(Brokered):
    """Quorum queues; with exchanges and queues of its own for each test."""

    queue_type = "quorum"

    @pytest.fixture
    def server(self, rabbit_server, wired):
        """Return a server with a wire before it; what the test has made there is deleted."""
        self.name = uuid4().hex[:8]
        yield wired(rabbit_server)
        rabbit_server.start()
        rabbit_server.delete(
            queues=[f"{self.name}-inbox.{label}" for label in LABELS],
            exchanges=[f"{self.name}.{label}" for label in LABELS],
        )

    def transport(self):
        """Return the URL of the wire, and names that no other test has."""
        return {
            "LOCATION": f"amqp://guest:guest@127.0.0.1:{self.broker.proxy.port}//",
            "OPTIONS": {
                "PREFIX": self.name,
                "QUEUE_PREFIX": f"{self.name}-inbox",
                "QUEUE_TYPE": self.queue_type,
            },
        }

    def refused(self):
        """Return an event that no queue is bound for."""
        return Whispered(topic="refused", number=2)

    @contextmanager
    def stopped(self):
        """Stop the broker within its node, which is quicker than to end the node."""
        self.broker.server.pause()
        yield
        self.broker.server.start()

    def losing_answers(self):
        """Lose the confirmations of all that was published."""
        return self.broker.losing(HEADER)

    def losing_acknowledgements(self):
        """End the connection when an acknowledgement has arrived: the server sends no answer to one."""
        return self.broker.losing(BASIC_ACK)

    @pytest.mark.usefixtures("patient")
    def test_what_is_confirmed_for_a_new_queue_survives_a_kill(self):
        """A queue is bound when RabbitMQ has written it down; before, it loses what it has confirmed."""
        scene.record_numbers(1)
        scene.relay()
        assert scene.all_sent()
        self.broker.server.kill()
        self.broker.server.start()
        scene.deliver_all()
        assert scene.heard() == [1]

    @pytest.mark.slow
    def test_a_storm_with_restarts_of_the_server_changes_neither(self):
        """A node takes five seconds to start."""
        super().test_a_storm_with_restarts_of_the_server_changes_neither()
