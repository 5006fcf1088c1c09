"""The suite that every transport passes, for authors of their own.

Subclass `TransportConformance` in a module of tests, say what the transport is, and what can be
done to its server; pytest collects the cases::

    from outbox_inbox.testing.conformance import TransportConformance

    class TestMyTransport(TransportConformance):
        cannot = {"refuse": "its server takes whatever it is given"}

        @pytest.fixture
        def server(self, my_server):          # a fixture of yours; here it is self.broker
            my_server.empty()
            return my_server

        def transport(self):
            return {"BACKEND": "mine.MyTransport", "LOCATION": self.broker.url}

        def restart(self):
            self.broker.restart()

        @contextmanager
        def stopped(self):
            self.broker.stop()

Yield:
            self.broker.start()

It needs pytest and Django, with ``outbox_inbox`` among INSTALLED_APPS. It brings three contexts
along, a publisher and two subscribers, and installs them for the time of a test. The databases are
to be such that transactions are really committed: the fixture ``database`` asks pytest-django for
them (``transactional_db``), and may be overridden.

Two levels are tested: the methods of the transport as `Transport` describes them, and what users
are promised, through `record`, the relay, the receiver and the dispatcher. ``docs/`` has the whole
story under "Writing a transport".
"""

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{name}" for name in ("adapter", "contract", "crashing", "failing")),
    *(f"{__name__}.{name}" for name in ("ordering", "scene", "subscribing")),
)

from .adapter import ABILITIES  # noqa: E402  after its assertions were made to explain themselves
from .contract import ContractCases  # noqa: E402
from .crashing import CrashCases  # noqa: E402
from .failing import ServerCases  # noqa: E402
from .ordering import OrderCases  # noqa: E402
from .subscribing import SubscriberCases  # noqa: E402

__all__ = ["ABILITIES", "TransportConformance"]


class TransportConformance(ContractCases, OrderCases, SubscriberCases, CrashCases, ServerCases):
    """What every transport has to pass; `abilities.Abilities` says what its author fills in."""
