"""The README is true about two deployments: its commands are run in two terminals of a shell."""

import os
import re
import secrets
import sys
from collections.abc import Iterator

import psycopg
import pytest

from tests import services
from tests.conftest import need
from tests.support.brokers import RabbitServer, RedisServer, Server
from tests.support.movers import eventually
from tests.support.terminal import ROOT, Terminal, blocks, two_terminals

README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## Each context in a process of its own")[1].split("\n## ")[0]
BLOCKS = blocks(SECTION)
TRANSPORT = re.compile(r"^\$ export TRANSPORT_URL=.*$", re.MULTILINE)

pytestmark = pytest.mark.sqlite  # it brings its own databases


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.slow)])
def broker(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A broker as it is after its installation: Redis writes nothing down yet."""
    need(services.REDIS_SERVER if request.param == "redis" else services.RABBITMQ_SERVER)
    with RedisServer(durable=False) if request.param == "redis" else RabbitServer() as server:
        yield server


@pytest.fixture
def places(broker: Server, postgres_url: str) -> Iterator[dict[str, str]]:
    """Where the servers are, and databases for this test alone."""
    suffix = f"_{os.getpid()}_{secrets.token_hex(4)}"
    base = postgres_url.rpartition("/")[0]
    yield {
        "postgres://postgres:postgres@127.0.0.1:5432/postgres": postgres_url,
        "postgres://postgres:postgres@127.0.0.1:5432/ordering": f"{base}/ordering{suffix}",
        "postgres://postgres:postgres@127.0.0.1:5432/shipping": f"{base}/shipping{suffix}",
        "DATABASE ordering": f"DATABASE ordering{suffix}",
        "DATABASE shipping": f"DATABASE shipping{suffix}",
        "127.0.0.1:6379": f"127.0.0.1:{broker.port}",
        "127.0.0.1:5672": f"127.0.0.1:{broker.port}",
        ".venv/bin/python": sys.executable,
    }
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for label in ("ordering", "shipping"):
            connection.execute(f"DROP DATABASE IF EXISTS {label}{suffix} WITH (FORCE)")


@pytest.fixture
def terminals(places: dict[str, str]) -> Iterator[tuple[Terminal, Terminal]]:
    """Two terminals."""
    with two_terminals(places) as opened:
        yield opened


def test_the_section_has_the_blocks_that_are_run_here() -> None:
    """Preparation, two terminals, back in each of them, and the other broker."""
    assert len(BLOCKS) == 6


def listens(broker: Server) -> bool:
    """Return whether shipping has said at the broker what it wants to hear."""
    if isinstance(broker, RedisServer):
        with broker.client() as client:
            return bool(client.exists("events:ordering"))
    assert isinstance(broker, RabbitServer)
    return "inbox.shipping" in broker.control("--quiet list_queues name")


def test_two_terminals_do_what_one_process_does(
    broker: Server, terminals: tuple[Terminal, Terminal]
) -> None:
    """Who enters all commands sees four of five orders shipped, over either broker."""
    preparation, shipping, ordering, dispatching, again, other_broker = BLOCKS
    first, second = terminals
    if isinstance(broker, RedisServer):
        first.enter(preparation)
    else:
        first.enter("".join(preparation.splitlines(keepends=True)[1:]))  # without redis-cli
        shipping, ordering = (
            TRANSPORT.sub(other_broker.strip(), block) for block in (shipping, ordering)
        )

    first.enter(shipping)
    eventually(lambda: listens(broker), "shipping listens")
    assert "5 placed" in second.enter(ordering)
    assert "4 dispatched" in first.enter(dispatching)

    printed = " ".join(second.enter(again).split())
    assert re.search(r"ordering orders shipped \d 4\b", printed)
    assert "shipping (elsewhere) --> ordering: shipping.shipment_dispatched v1" in printed
    assert second.wait() == 0
