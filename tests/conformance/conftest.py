"""Servers of the tests' own, one of each kind in a run: they are killed, cut off and emptied."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from outbox_inbox.testing.conformance import TransportConformance
from outbox_inbox.transports import forget_transports
from tests import services
from tests.conftest import need
from tests.integration.conftest import both_databases, committed
from tests.support.brokers import Proxy, RabbitServer, RedisServer, Server

__all__ = ["both_databases", "committed"]


def kept_running(server: Server) -> Iterator[Server]:
    """Lend a server for one test, and have it run again afterwards, whatever the test did."""
    server.start()
    yield server
    server.start()


@pytest.fixture(scope="session")
def _redis() -> Iterator[RedisServer]:
    need(services.REDIS_SERVER)
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def _rabbit() -> Iterator[RabbitServer]:
    need(services.RABBITMQ_SERVER)
    with RabbitServer() as server:
        yield server


@pytest.fixture
def redis_server(_redis: RedisServer) -> Iterator[Server]:
    """An empty Redis that writes to disk what it confirms, and may be killed."""
    _redis.start()
    _redis.empty()
    yield from kept_running(_redis)


@pytest.fixture
def rabbit_server(_rabbit: RabbitServer) -> Iterator[Server]:
    """A RabbitMQ that may be killed."""
    yield from kept_running(_rabbit)


@dataclass(frozen=True)
class Wired:
    """A server, and the wire to it that a test can cut."""

    server: Server
    proxy: Proxy

    @contextmanager
    def losing(self, marker: bytes) -> Iterator[None]:
        """Lose the answers to what has the marker in it; there has to be something like that."""
        before = self.proxy.lost
        with self.proxy.losing_answers(marker):
            yield
        assert self.proxy.lost > before, f"nothing with {marker!r} came over the wire"


class Committed(TransportConformance):
    """The suite on both databases, with transactions that are really committed."""

    @pytest.fixture
    def database(self, committed: None) -> None:
        pass


class Brokered(Committed):
    """The suite with a server that can be killed, behind a wire that can be cut."""

    broker: Wired

    def restart(self) -> None:
        self.broker.server.restart()

    def dying(self) -> AbstractContextManager[None]:
        return self.broker.proxy.cut()

    def hanging(self) -> AbstractContextManager[None]:
        return self.broker.proxy.hanging()


@dataclass(frozen=True)
class Used:
    """A server that all contexts use, and the entry of TRANSPORTS with names of this test only."""

    server: Server
    entry: dict[str, Any]


@pytest.fixture(
    params=[
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("rabbit", marks=pytest.mark.rabbitmq),
    ]
)
def used(request: pytest.FixtureRequest) -> Iterator[Used]:
    """A Redis, or a RabbitMQ."""
    server = request.getfixturevalue(f"{request.param}_server")
    unique = uuid4().hex[:8]
    options = {"PREFIX": unique}
    if request.param == "rabbit":
        options["QUEUE_PREFIX"] = f"{unique}-inbox"
    yield Used(server, {"LOCATION": server.url, "OPTIONS": options})
    forget_transports()


@pytest.fixture
def wired() -> Iterator[Callable[[Server], Wired]]:
    """Return a function that puts a wire before a server, for one test."""
    with ExitStack() as stack:
        yield lambda server: Wired(server, stack.enter_context(Proxy(server.port)))
