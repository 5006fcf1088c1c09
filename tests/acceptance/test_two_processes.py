"""Ordering and shipping as two deployments, with a database each and a broker between them."""

import json
import secrets
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from outbox_inbox.conf.faults import POINTS
from tests import services
from tests.acceptance.apart import Apart, Between, between_at, deployed_apart, stop
from tests.acceptance.chaos import Broker, Command, kill_at_random
from tests.acceptance.conftest import WORKER, Processes
from tests.acceptance.orders import (
    NORTHWIND,
    Orders,
    needs_northwind,
    read_orders,
    write_orders,
    write_steps,
)
from tests.acceptance.store import Stores
from tests.conftest import need
from tests.support.brokers import RabbitServer, RedisServer, Server

KEYS = 4
PACE = 0.2  # seconds: whatever is killed, something is always under way
RABBITMQ = pytest.param("amqp_url", marks=pytest.mark.rabbitmq, id="rabbitmq")
REDIS = pytest.param("redis_server", id="redis")


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """A Redis of these tests' own, which may be killed: it writes down what it confirms."""
    need(services.REDIS_SERVER)
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def rabbit_server() -> Iterator[RabbitServer]:
    """A RabbitMQ of these tests' own, which may be killed."""
    need(services.RABBITMQ_SERVER)
    with RabbitServer() as server:
        yield server


@pytest.fixture
def between(request: pytest.FixtureRequest) -> Iterator[Between]:
    """The broker whose fixture a test names: a server of its own, or the URL of one."""
    found = request.getfixturevalue(request.param)
    with between_at(found if isinstance(found, str) else found.url) as broker:
        yield broker


@pytest.fixture
def apart(between: Between, new_stores: Callable[[], Stores], tmp_path: Path) -> Iterator[Apart]:
    """Two deployments, each on a migrated database of its own."""
    # Outages here last for seconds: no back-off of minutes is needed after one.
    found = deployed_apart(new_stores(), between, tmp_path, OUTBOX_INBOX_BACKOFF_MAXIMUM="2s")
    yield found
    found.end()


LOOK = """
import django
django.setup()
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
get_user_model().objects.create_superuser("root", "", "root")
client = Client(headers={"host": "localhost"})
client.login(username="root", password="root")
page = client.get("/admin/")
assert page.status_code == 200, page.status_code
shown = {label for label in ("ordering", "shipping") if f"/admin/{label}/" in page.text}
tables = {name.partition("_")[0] for name in connection.introspection.table_names()}
print(*sorted(shown), *sorted({"ordering", "shipping"} & tables))
"""


@pytest.mark.parametrize("label", ["ordering", "shipping"])
def test_a_deployment_has_the_tables_and_pages_of_its_own_context(
    new_stores: Callable[[], Stores], label: str
) -> None:
    """`migrate` makes no table of a context that is elsewhere, and the admin has no page of it."""
    processes = Processes(
        getattr(new_stores(), label), CONTEXTS=label, TRANSPORT_URL="redis://127.0.0.1:1/0"
    )
    printed = processes.succeed("-c", LOOK)
    assert printed.split() == [label, label]
    assert "no issues" in processes.succeed("manage.py", "check", "--fail-level", "WARNING")


over_each_broker = pytest.mark.parametrize("between", [REDIS, RABBITMQ], indirect=True)


@over_each_broker
def test_two_deployments_come_to_the_end_of_one(apart: Apart, tmp_path: Path) -> None:
    """A few orders, one worker each: every figure is that of one process, and nothing is left."""
    finish(apart, write_orders(tmp_path, 40), steps=4)


@pytest.mark.slow
@needs_northwind
@over_each_broker
def test_the_real_orders_come_to_the_known_figures(apart: Apart) -> None:
    """The Northwind day over two deployments: 830 orders in 21 countries bring in 1265793.22."""
    northwind = read_orders(*NORTHWIND)
    workers = apart.start_workers()
    apart.place(northwind)
    apart.wait_until_done(northwind, 0, 0)
    assert stop(workers) == [0, 0], apart.said()

    stores, board = apart.stores, apart.stores.board()
    assert stores.counted("ordering_ordersummary") == {"open": 21, "shipped": 809}
    assert stores.counted("shipping_shipment") == {"booked": 21, "dispatched": 809}
    assert (len(board), sum(count for count, _ in board.values())) == (21, 830)
    assert sum(revenue for _, revenue in board.values()) == Decimal("1265793.22")
    assert board["USA"] == (122, Decimal("245584.64"))
    assert board["Germany"] == (122, Decimal("230284.69"))
    for deployment in apart.deployments:
        printed = deployment.succeed("manage.py", "queue_stats", "--format", "json")
        found = json.loads(printed)
        assert (found["unfinished"], found["dead"]) == (0, 0)


over_each_mortal_broker = pytest.mark.parametrize(
    ("between", "server"),
    [
        pytest.param("redis_server", "redis_server", id="redis"),
        pytest.param("rabbit_server", "rabbit_server", id="rabbitmq"),
    ],
    indirect=True,
)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The server itself, running again afterwards."""
    found: Server = request.getfixturevalue(request.param)
    yield found
    found.start()


def victims_of(apart: Apart, server: Server, orders: Orders, steps: int) -> list[Any]:
    """Return all that can be killed: two workers and the writers of each deployment, the broker."""
    commands = [
        (apart.ordering, WORKER),
        (apart.ordering, WORKER),
        (apart.shipping, WORKER),
        (apart.shipping, WORKER),
        (apart.ordering, orders.command),
        (apart.shipping, orders.command),
        (apart.ordering, write_steps(KEYS, steps, PACE)),
    ]
    return [
        *(Command(each, arguments, apart.output(each)) for each, arguments in commands),
        Broker(server),
    ]


def attach(apart: Apart) -> None:
    """Let every subscriber make and bind its queue before the broker is killed for the first time.

    A quorum queue that RabbitMQ was killed at the making of has to be deleted (by a person), although
    nothing was routed to it yet: docs/transports-rabbitmq.md.
    """
    assert stop(apart.start_workers()) == [0, 0], apart.said()


def finish(apart: Apart, orders: Orders, steps: int) -> None:
    """Let everything come to its end without further kills, and compare the figures."""
    workers = apart.start_workers()
    apart.ordering.succeed(*write_steps(KEYS, steps))
    apart.place(orders)
    apart.wait_until_done(orders, KEYS, steps)
    assert stop(workers) == [0, 0], apart.said()
    apart.wait_until_done(orders, KEYS, steps)


@pytest.mark.slow
@over_each_mortal_broker
def test_kills_of_everybody_lose_and_repeat_nothing(
    apart: Apart, server: Server, tmp_path: Path
) -> None:
    """Workers, writers and the broker are killed -9 again and again: the figures do not change."""
    orders, steps = write_orders(tmp_path, 60), 80
    attach(apart)
    kill_at_random(
        victims_of(apart, server, orders, steps), kills=24, longest=2.5, seed=secrets.randbits(32)
    )
    finish(apart, orders, steps)


@pytest.mark.slow
@needs_northwind
@over_each_mortal_broker
def test_the_real_orders_survive_a_hundred_kills(apart: Apart, server: Server) -> None:
    """The Northwind day over two deployments, with a hundred kills, the broker's among them.

    Some come at random moments, and some at every step of the way.
    """
    orders, steps, points = read_orders(*NORTHWIND), 300, sorted(POINTS)
    attach(apart)
    kill_at_random(
        victims_of(apart, server, orders, steps),
        kills=100,
        longest=3,
        seed=secrets.randbits(32),
        faults=lambda kill: f"{points[kill % len(points)]}:kill@{kill % 7 + 1}",
    )
    finish(apart, orders, steps)
