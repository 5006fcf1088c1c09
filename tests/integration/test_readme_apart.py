"""The README is true about two deployments: its commands are run in two terminals of a shell."""

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests import services
from tests.brokers import RabbitServer, RedisServer, Server
from tests.conftest import need
from tests.integration.helpers import eventually

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## Each context in a process of its own")[1].split("\n## ")[0]
BLOCKS = re.findall(r"^```console\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
TRANSPORT = re.compile(r"^\$ export TRANSPORT_URL=.*$", re.MULTILINE)
DONE = "this block is done"

pytestmark = pytest.mark.sqlite  # it brings its own databases


class Terminal:
    """A shell in the folder of the project, in which somebody enters what the README says.

    Arguments:
        places: what stands in the README -> where the tests have it.
    """

    def __init__(self, places: dict[str, str]) -> None:
        self.places = places
        (home := {**os.environ}).pop("DJANGO_SETTINGS_MODULE", None)
        self._shell = subprocess.Popen(
            ["bash", "-e"],
            cwd=ROOT,
            env=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def enter(self, block: str) -> str:
        """Enter the commands of a block; return what was printed. Each of them must end well."""
        lines = [line.removeprefix("$ ") for line in block.splitlines()]
        assert len(lines) == block.count("$ ")
        return self._do("\n".join(map(self._placed, lines)))

    def last_status(self) -> int:
        """Return how the command in the background has ended."""
        printed = self._do("wait %1 && echo status $? || echo status $?")
        return int(printed.rpartition("status ")[2])

    def close(self) -> None:
        """End the shell, and what runs in its background."""
        if self._shell.poll() is None:
            self._do("kill -9 $(jobs -p) 2>/dev/null || true")
        self._shell.communicate()

    def _placed(self, line: str) -> str:
        for written, found in self.places.items():
            line = line.replace(written, found)
        return line

    def _do(self, script: str) -> str:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{script}\necho {DONE}\n")
        self._shell.stdin.flush()
        printed = []
        for line in self._shell.stdout:
            if line == f"{DONE}\n":
                return "".join(printed)
            printed.append(line)
        raise AssertionError("".join(printed))


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.slow)])
def broker(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A broker as it is after its installation: Redis writes nothing down yet."""
    need(services.REDIS_SERVER if request.param == "redis" else services.RABBITMQ_SERVER)
    with RedisServer(durable=False) if request.param == "redis" else RabbitServer() as server:
        yield server


@pytest.fixture
def places(broker: Server, postgres_url: str) -> Iterator[dict[str, str]]:
    """Where the servers are, and databases that nobody else has."""
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
    opened = Terminal(places), Terminal(places)
    yield opened
    for each in opened:
        each.close()


def test_the_section_has_the_blocks_that_are_run_here() -> None:
    """Preparation, two terminals, back in each of them, and the other broker."""
    assert len(BLOCKS) == 6


def listens(broker: Server) -> bool:
    """Tell whether shipping has said at the broker what it wants to hear."""
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
    assert second.last_status() == 0
