"""Two CSV files, orders and their lines, made into orders: all of them or none."""

from collections import defaultdict
from pathlib import Path

from context_a.services import OrderLine

from .orders import OutsideOrder
from .tables import Problem, Row, read_table

ORDER_COLUMNS = ("order_id", "customer", "country", "ordered_on", "required_on", "shipped_on")
LINE_COLUMNS = ("order_id", "product", "unit_price", "quantity", "discount")


class WrongFiles(Exception):
    """The files are not what they should be; `problems` has every mistake, by file and line."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def read_orders(orders: Path, lines: Path) -> list[OutsideOrder]:
    """Read both files completely, in the order of the orders' file.

    Raises WrongFiles when anything is wrong in either of them.
    """
    problems: list[Problem] = []
    order_rows = read_table(orders, ORDER_COLUMNS, problems)
    line_rows = read_table(lines, LINE_COLUMNS, problems)
    complete = not problems
    lines_of: dict[str, list[OrderLine]] = defaultdict(list)
    for row in line_rows:
        lines_of[row.text("order_id")].append(_line(row))
    read = [_order(row, tuple(lines_of[row.cells["order_id"]])) for row in order_rows]
    if complete:  # else rows are missing, and nothing can be said about what refers to them
        _check_references(order_rows, line_rows, str(orders), str(lines), problems)
    if problems:
        raise WrongFiles(sorted(problems, key=lambda one: (one.file != str(orders), one.line or 0)))
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
            row.refuse("order_id", f"this order stands on line {first.line} already")
    with_lines = {row.cells["order_id"] for row in line_rows}
    for row in line_rows:
        if row.cells["order_id"] not in known:
            row.refuse("order_id", f"this order is not in {orders}")
    for order_id, row in known.items():
        if order_id not in with_lines:
            row.refuse("order_id", f"this order has no lines in {lines}")


def _line(row: Row) -> OrderLine:
    return OrderLine(
        product=row.text("product"),
        unit_price=row.number("unit_price"),
        quantity=row.whole_number("quantity"),
        discount=row.number("discount", maximum=1),
    )


def _order(row: Row, lines: tuple[OrderLine, ...]) -> OutsideOrder:
    return OutsideOrder(
        order_id=row.text("order_id"),
        customer=row.text("customer"),
        country=row.text("country"),
        lines=lines,
        ordered_on=row.day("ordered_on"),
        required_on=row.day("required_on"),
        shipped_on=row.day_or_none("shipped_on"),
    )
