"""The manual for moving a context to its own process is true: its commands are run, in two shells."""

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests import services
from tests.acceptance.orders import Orders, write_orders
from tests.acceptance.store import Store, Stores
from tests.conftest import need
from tests.support.brokers import RedisServer
from tests.support.movers import eventually
from tests.support.terminal import ROOT, Terminal, blocks, two_terminals

MANUAL = (ROOT / "docs" / "splitting-process.md").read_text(encoding="utf-8")
SECTION = MANUAL.split("## To its own process\n")[1].split("\n## ")[0]
PLACE = "$ .venv/bin/python manage.py place_orders "
SERVER = "postgres://postgres:postgres@127.0.0.1:5432"

pytestmark = [pytest.mark.sqlite, pytest.mark.slow]  # it brings its own databases


@pytest.fixture
def databases(postgres_url: str) -> Iterator[dict[str, str]]:
    """Empty databases for the monolith and for shipping: by label, their URLs."""
    suffix = f"_{os.getpid()}_{secrets.token_hex(4)}"
    base = postgres_url.rpartition("/")[0]
    names = {label: f"{label}{suffix}" for label in ("monolith", "shipping")}
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for name in names.values():
            connection.execute(f"CREATE DATABASE {name}")
        yield {label: f"{base}/{name}" for label, name in names.items()}
        for name in names.values():
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def terminals(databases: dict[str, str]) -> Iterator[tuple[Terminal, Terminal]]:
    """Two terminals of a reader with a Redis."""
    need(services.REDIS_SERVER)
    with RedisServer() as redis:
        places = {f"{SERVER}/{label}": url for label, url in databases.items()}
        places |= {"redis://127.0.0.1:6379/0": redis.url, ".venv/bin/python": sys.executable}
        with two_terminals(places) as opened:
            yield opened


def some_of(orders: Orders, first: int, last: int) -> str:
    """Write some of the orders to two files; return both, as arguments."""
    header, *rows = orders.orders.read_text().splitlines()
    chosen = rows[first:last]
    ids = {row.partition(",")[0] for row in chosen}
    line_header, *lines = orders.lines.read_text().splitlines()
    files = orders.orders.with_name("some.csv"), orders.lines.with_name("some_lines.csv")
    files[0].write_text("\n".join([header, *chosen, ""]))
    of_them = [line for line in lines if line.partition(",")[0] in ids]
    files[1].write_text("\n".join([line_header, *of_them, ""]))
    return " ".join(map(str, files))


def test_a_context_moves_out_while_orders_come(
    terminals: tuple[Terminal, Terminal], databases: dict[str, str], tmp_path: Path
) -> None:
    """Orders are placed between the steps: in the end each is shipped, and counted, once."""
    monolith, out = terminals
    where_we_are, broker, second, leave, look = blocks(SECTION)
    orders = write_orders(tmp_path, 50)
    stores = Stores(Store(databases["monolith"]), Store(databases["shipping"]))

    monolith.enter(where_we_are)
    monolith.enter(PLACE + some_of(orders, 0, 10))
    monolith.enter(broker)
    monolith.enter(PLACE + some_of(orders, 10, 25))
    out.enter(second)
    monolith.enter(PLACE + some_of(orders, 25, 40))
    monolith.enter(leave)
    monolith.enter(PLACE + some_of(orders, 0, 50))
    out.enter(PLACE + some_of(orders, 0, 50))
    assert "shipping (elsewhere) --> ordering" in monolith.enter(look)
    assert "shipping --> (elsewhere)" in out.enter(look)

    def found() -> dict[str, object]:
        return {
            "orders": stores.counted("ordering_ordersummary"),
            "shipments": stores.counted("shipping_shipment"),
            "board": stores.board(),
            "left": (stores.unfinished(), stores.quarantined()),
            "users": stores.shipping.query("SELECT COUNT(*) FROM auth_user"),
        }

    still_open = orders.count - orders.shipped
    assert eventually(lambda: stores.unfinished() == 0, "nothing is left")
    assert found() == {
        "orders": {"open": still_open, "shipped": orders.shipped},
        "shipments": {"booked": still_open, "dispatched": orders.shipped},
        "board": orders.board,
        "left": (0, 0),
        "users": [(0,)],
    }
