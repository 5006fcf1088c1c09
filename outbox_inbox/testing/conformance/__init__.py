"""The suite that every transport passes, for authors of their own.

Subclass `TransportConformance` in a test module, define what the transport is and what can be done to
its server, and pytest collects the cases::

    from outbox_inbox.testing.conformance import TransportConformance

    class TestMyTransport(TransportConformance):
        cannot = {"refuse": "its server accepts every message"}

        @pytest.fixture
        def server(self, my_server):  # a fixture of yours; its value becomes self.broker
            my_server.empty()
            return my_server

        def transport(self):
            return {"BACKEND": "mine.MyTransport", "LOCATION": self.broker.url}

        def restart(self):
            self.broker.restart()

        @contextmanager
        def stopped(self):
            self.broker.stop()
            yield  # the case runs here
            self.broker.start()

It needs pytest and Django, with ``outbox_inbox`` in INSTALLED_APPS. It contains three contexts, a
publisher and two subscribers, and installs them for the time of a test. The databases must really
commit: the fixture ``database`` asks pytest-django for that (``transactional_db``), and can be
overridden.

The cases test two levels: the methods of the transport as `Transport` describes them, and what users
are promised, through `record`, the relay, the receiver and the dispatcher.
``docs/writing-a-transport.md`` lists the abilities.
"""

import pytest

_ASSERTING = (
    *("adapter", "contract_cases", "crash_cases", "order_cases", "scene", "server_cases"),
    "subscriber_cases",
)
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in _ASSERTING))

from .adapter import ABILITIES  # noqa: E402  after pytest was asked to rewrite its assertions
from .contract_cases import ContractCases  # noqa: E402
from .crash_cases import CrashCases  # noqa: E402
from .order_cases import OrderCases  # noqa: E402
from .server_cases import ServerCases  # noqa: E402
from .subscriber_cases import SubscriberCases  # noqa: E402

__all__ = ["ABILITIES", "TransportConformance"]


class TransportConformance(ContractCases, OrderCases, SubscriberCases, CrashCases, ServerCases):
    """The cases that every transport passes; its author fills in the methods of `adapter.Adapter`."""
