"""``local://``: on one database, where it is one transaction, and to another one."""

from contextlib import contextmanager
from typing import ClassVar
from unittest.mock import patch

from django.db import OperationalError

from outbox_inbox.queues import intake
from outbox_inbox.testing.conformance.scene import SUBSCRIBERS
from tests.conformance.conftest import Committed

ANSWER = "the answer to a COMMIT is the database driver's affair"


class TestLocal(Committed):
    """Publisher and subscribers on one database."""

    cannot: ClassVar = {
        "receive": "it puts messages into the inboxes itself",
        "refuse": "whatever the outbox holds fits into an inbox",
        "restart": "its server is the database of the context, without which nothing works",
        "stop": "its server is the database of the context, without which nothing works",
        "hang": "its server is the database of the context, without which nothing works",
        "lose_answers": ANSWER,
        "lose_acknowledgements": ANSWER,
    }

    def transport(self):
        """Return the URL."""
        return "local://"


class TestLocalToAnotherDatabase(TestLocal):
    """Subscribers on another database than the publisher, which can be out of reach by itself."""

    cannot: ClassVar = {name: TestLocal.cannot[name] for name in TestLocal.cannot if name != "stop"}

    def settings(self):
        """Put the subscribers onto the other database."""
        return {
            **super().settings(),
            "CONTEXTS": {label: {"database": "other"} for label in SUBSCRIBERS},
        }

    @contextmanager
    def stopped(self):
        """Let the other database refuse whatever comes from outside."""
        gone = OperationalError("the server is gone")
        with patch.object(intake, "insert_messages", side_effect=gone):
            yield
