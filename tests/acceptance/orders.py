"""A few orders in two CSV files, and what must come of them."""

import csv
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.store import Store, Stores

ORDER_COLUMNS = [
    "order_id",
    "customer_id",
    "customer",
    "ordered_on",
    "required_on",
    "shipped_on",
    "carrier",
    "freight",
    "ship_to",
    "city",
    "country",
]
LINE_COLUMNS = ["order_id", "product_id", "product", "unit_price", "quantity", "discount"]
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
NORTHWIND = DATA / "northwind_orders.csv", DATA / "northwind_order_lines.csv"
needs_northwind = pytest.mark.skipif(
    not all(file.exists() for file in NORTHWIND),
    reason="the Northwind files are not in ../shared/data",
)
COUNTRIES = ("Norway", "Peru", "Japan")
CENT = Decimal("0.01")


@dataclass(frozen=True)
class Orders:
    """Two files, and the figures that are in them."""

    orders: Path
    lines: Path
    count: int
    shipped: int
    board: dict[str, tuple[int, Decimal]]

    @property
    def command(self) -> tuple[str, ...]:
        """The command that places them."""
        return "manage.py", "place_orders", str(self.orders), str(self.lines)


def write_steps(keys: int, steps: int, pace: float = 0) -> tuple[str, ...]:
    """Return the command that records numbered steps; ``pace``: seconds between two of them."""
    return "-m", "tests.acceptance.steps", str(keys), str(steps), str(pace)


def write_orders(folder: Path, count: int) -> Orders:
    """Write orders of which every fourth has not been shipped."""
    orders, lines, board = [], [], dict.fromkeys(COUNTRIES, (0, Decimal(0)))
    for number in range(count):
        country = COUNTRIES[number % len(COUNTRIES)]
        shipped = "" if number % 4 == 0 else "2016-07-16"
        dates = ["2016-07-04", "2016-08-01", shipped]
        orders.append([number, "ANATR", "Ana", *dates, "Sea", "1.5", "A", "B", country])
        price, discount = Decimal(number) + Decimal("0.35"), Decimal("0.15")
        lines += [[number, 1, "Tea", price, 3, discount], [number, 2, "Rice", "2.5", 2, "0"]]
        total = (price * 3 * (1 - discount) + 5).quantize(CENT, ROUND_HALF_UP)
        before, revenue = board[country]
        board[country] = before + 1, revenue + total
    return Orders(
        _write(folder / "orders.csv", ORDER_COLUMNS, orders),
        _write(folder / "lines.csv", LINE_COLUMNS, lines),
        count=count,
        shipped=sum(number % 4 != 0 for number in range(count)),
        board=board,
    )


def _write(path: Path, columns: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def read_orders(orders: Path, lines: Path) -> Orders:
    """Read the figures from two files, by other code than the project's."""
    totals: dict[str, Decimal] = {}
    with lines.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            amount = Decimal(row["unit_price"]) * int(row["quantity"])
            amount *= 1 - Decimal(row["discount"])
            totals[row["order_id"]] = totals.get(row["order_id"], Decimal(0)) + amount
    board: dict[str, tuple[int, Decimal]] = {}
    count = shipped = 0
    with orders.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            total = totals[row["order_id"]].quantize(CENT, ROUND_HALF_UP)
            before, revenue = board.get(row["country"], (0, Decimal(0)))
            board[row["country"]] = before + 1, revenue + total
            count, shipped = count + 1, shipped + bool(row["shipped_on"])
    return Orders(orders, lines, count, shipped, board)


def assert_all_is_well(store: Store | Stores, orders: Orders, keys: int, steps: int) -> None:
    """Everything arrived once and in order, and nothing is left over."""
    assert figures(store) == expected(orders, keys, steps)


def expected(orders: Orders, keys: int, steps: int) -> dict[str, Any]:
    """Return what has to be in the databases at the end."""
    still_open = orders.count - orders.shipped
    return {
        "orders": {"open": still_open, "shipped": orders.shipped},
        "shipments": {"booked": still_open, "dispatched": orders.shipped},
        "board": orders.board,
        "ledger": {
            (consumer, str(key)): list(range(1, steps + 1))
            for consumer in ("note", "count", "enlist", "pick", "watch")
            for key in range(keys)
        },
        "unfinished": 0,
        "quarantined": 0,
    }


def figures(store: Store | Stores) -> dict[str, Any]:
    """Return what is in the databases."""
    return {
        "orders": store.counted("ordering_ordersummary"),
        "shipments": store.counted("shipping_shipment"),
        "board": store.board(),
        "ledger": store.ledger(),
        "unfinished": store.unfinished(),
        "quarantined": store.quarantined(),
    }
