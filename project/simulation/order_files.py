"""Reads orders from two CSV files, orders and their lines: all of them or none."""

from collections import defaultdict
from pathlib import Path

from context_a.services import OrderLine

from .csv_table import Problem, Row, read_table
from .customer_order import CustomerOrder

ORDER_COLUMNS = ("order_id", "customer", "country", "ordered_on", "required_on", "shipped_on")
LINE_COLUMNS = ("order_id", "product", "unit_price", "quantity", "discount")


class InvalidFiles(Exception):
    """The files have mistakes; `problems` lists all of them, by file and line."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def read_orders(orders: Path, lines: Path) -> list[CustomerOrder]:
    """Read both files completely; return the orders in the order of the first one.

    Raises:
        InvalidFiles: one of them has a mistake.
    """
    problems: list[Problem] = []
    order_rows = read_table(orders, ORDER_COLUMNS, problems)
    line_rows = read_table(lines, LINE_COLUMNS, problems)
    complete = not problems
    lines_of: dict[str, list[OrderLine]] = defaultdict(list)
    for row in line_rows:
        lines_of[row.text("order_id")].append(_order_line(row))
    read = [_customer_order(row, tuple(lines_of[row.cells["order_id"]])) for row in order_rows]
    if complete:  # otherwise rows are missing, and every reference to them would be reported
        _check_references(order_rows, line_rows, str(orders), str(lines), problems)
    if problems:
        raise InvalidFiles(
            sorted(problems, key=lambda one: (one.file != str(orders), one.line or 0))
        )
    return read


def _check_references(
    order_rows: list[Row],
    line_rows: list[Row],
    orders: str,
    lines: str,
    problems: list[Problem],
) -> None:
    if not order_rows:
        problems.append(Problem(orders, 1, None, "there are no orders below the header"))
    known: dict[str, Row] = {}
    for row in order_rows:
        first = known.setdefault(row.cells["order_id"], row)
        if first is not row:
            row.refuse("order_id", f"line {first.line} has this order already")
    with_lines = {row.cells["order_id"] for row in line_rows}
    for row in line_rows:
        if row.cells["order_id"] not in known:
            row.refuse("order_id", f"this order is not in {orders}")
    for order_id, row in known.items():
        if order_id not in with_lines:
            row.refuse("order_id", f"this order has no lines in {lines}")


def _order_line(row: Row) -> OrderLine:
    return OrderLine(
        product=row.text("product"),
        unit_price=row.number("unit_price"),
        quantity=row.whole_number("quantity"),
        discount=row.number("discount", maximum=1),
    )


def _customer_order(row: Row, lines: tuple[OrderLine, ...]) -> CustomerOrder:
    return CustomerOrder(
        order_id=row.text("order_id"),
        customer=row.text("customer"),
        country=row.text("country"),
        lines=lines,
        ordered_on=row.day("ordered_on"),
        required_on=row.day("required_on"),
        shipped_on=row.day_or_none("shipped_on"),
    )
