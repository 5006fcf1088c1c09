"""``redis://`` against a Redis of its own that is killed, cut off, and silent."""

from contextlib import contextmanager

import pytest

from outbox_inbox.testing.conformance.publisher.contracts import Said
from tests.conformance.conftest import Brokered

pytestmark = pytest.mark.redis

MAX_ENTRY = 300_000  # bytes; more than MAX_PAYLOAD allows by default


class TestRedis(Brokered):
    """Streams on a server that writes to disk before it answers (appendfsync always)."""

    @pytest.fixture
    def server(self, redis_server, wired):
        """Return an empty server with a wire before it."""
        return wired(redis_server)

    def transport(self):
        """Return the URL of the wire, with a limit that one message can pass."""
        return {
            "LOCATION": f"redis://127.0.0.1:{self.broker.proxy.port}/0",
            "OPTIONS": {"MAX_ENTRY": MAX_ENTRY},
        }

    def settings(self):
        """Let larger messages be recorded than the transport takes."""
        return {**super().settings(), "MAX_PAYLOAD": 2 * MAX_ENTRY}

    def refused(self):
        """Return an event that is larger than an entry may be."""
        return Said(topic="refused", number=2, text="x" * MAX_ENTRY)

    @contextmanager
    def stopped(self):
        """Kill it, and start it afterwards."""
        self.broker.server.kill()
        yield
        self.broker.server.start()

    def losing_answers(self):
        """Lose the answers to all that was appended."""
        return self.broker.losing(b"XADD")

    def losing_acknowledgements(self):
        """Lose the answers to acknowledgements."""
        return self.broker.losing(b"XACK")
