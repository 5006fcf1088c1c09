"""The files of strangers: read exactly, or refused with file, line and column of every mistake."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from context_a.services import OrderLine
from project.simulation.customer_order import CustomerOrder
from project.simulation.order_files import InvalidFiles, read_orders

DATA = Path(__file__).parent.parent / "data"
ORDERS = (DATA / "orders.csv").read_bytes()
LINES = (DATA / "order_lines.csv").read_bytes()


DATE = " is not a date, such as 2016-07-04"
NUMBER = " is not a number from 0, such as 0.25"
SHARE = " is not a number from 0 to 1, such as 0.25"
WHOLE = " is not a whole number from 1, such as 12"


class Files:
    """The two good files in a folder, each line and value of which a test can spoil."""

    def __init__(self, folder: Path) -> None:
        self.orders = folder / "orders.csv"
        self.lines = folder / "lines.csv"
        self.orders.write_bytes(ORDERS)
        self.lines.write_bytes(LINES)

    def spoil(self, path: Path, good: bytes, bad: bytes) -> None:
        """Replace what stands once in a file."""
        content = path.read_bytes()
        assert content.count(good) == 1, f"{good!r} does not stand once in {path}"
        path.write_bytes(content.replace(good, bad))

    def read(self) -> list[CustomerOrder]:
        """The orders of the files as they are now."""
        return read_orders(self.orders, self.lines)

    def problems(self) -> list[str]:
        """What is wrong, without the folder's name."""
        with pytest.raises(InvalidFiles) as refused:
            self.read()
        return str(refused.value).replace(f"{self.orders.parent}/", "").splitlines()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Two good files."""
    return Files(tmp_path)


def test_an_order_has_the_values_of_its_row(files: Files) -> None:
    """Every value of a row arrives in its type, whatever else the row has and quotes."""
    order = files.read()[1]
    assert order == CustomerOrder(
        order_id="1002",
        customer="Zum Goldenen Anker, Inhaber Huber",
        country="Germany",
        lines=(
            OrderLine(product="Chai", unit_price=Decimal(18), quantity=1, discount=Decimal("0.25")),
        ),
        ordered_on=date(2024, 3, 2),
        required_on=date(2024, 3, 30),
        shipped_on=date(2024, 3, 4),
    )


def test_orders_come_in_the_order_of_their_file(files: Files) -> None:
    """The orders' file says in which order they are placed."""
    assert [order.order_id for order in files.read()] == ["1001", "1002", "1003", "1004", "1005"]


def test_an_order_without_a_shipping_date_is_not_shipped(files: Files) -> None:
    """An empty `shipped_on` means that the order never left the house."""
    assert files.read()[2].shipped_on is None


def test_a_total_is_rounded_half_up_once(files: Files) -> None:
    """The exact sum of the lines is rounded, not each line, and half a cent goes up."""
    assert files.read()[0].total == Decimal("64.83")


def test_a_byte_order_mark_is_no_part_of_the_first_column(files: Files) -> None:
    """A file that a spreadsheet saved as UTF-8 with a byte order mark is read."""
    files.orders.write_bytes(b"\xef\xbb\xbf" + ORDERS)
    assert len(files.read()) == 5


def test_blank_lines_do_not_count(files: Files) -> None:
    """A blank line between records or at the end is no record."""
    files.lines.write_bytes(LINES.replace(b"\n", b"\r\n\r\n"))
    assert len(files.read()) == 5


@pytest.mark.parametrize(
    ("good", "bad", "problem"),
    [
        (b"1003,BLABA", b",BLABA", "line 4, column order_id: the value is empty"),
        (b"2024-03-30,,", b"30.03.2024,,", f"line 4, column required_on: '30.03.2024'{DATE}"),
        (b"2024-03-30,,", b"2024-02-30,,", f"line 4, column required_on: '2024-02-30'{DATE}"),
        (b"2024-03-30,,", b"2024-03-30,20240401,", f"line 4, column shipped_on: '20240401'{DATE}"),
        ("Blåbär".encode(), "Blåbär".encode("latin-1"), "line 4, column customer: is not UTF-8"),
        (b"Elgin", b"\xff", "line 6, column city: is not UTF-8"),
        (b"Elgin", b"El\0gin", "line 6, column city: has a NUL character"),
        (b",Norway", b",Nor\x1bway", "line 2, column country: has a control character (U+001B)"),
        (b"Fjordmat", b"F" * 101, f"line 2, column customer: '{'F' * 40}'… is longer than 100"),
        (b"1004,", b"1002,", "line 5, column order_id: line 3 has this order already"),
        (b",USA", b"", "line 6, column country: the line has 7 values, and the header 8 columns"),
        (b",USA", b",USA,", "line 6, column 9: the line has 9 values, and the header 8 columns"),
        (b"1001,FJORD,", b'1001,"FJORD,', "line 2: is not CSV: "),
        (b",shipped_on", b",shipped", "line 1, column shipped_on: the column is missing"),
        (b",city,", b",country,", "line 1, column country: the column occurs twice in the header"),
        (b"city", b"c\xefty", "line 1, column 7: is not UTF-8"),
    ],
)
def test_a_mistake_in_the_orders_is_named_with_its_place(
    files: Files, good: bytes, bad: bytes, problem: str
) -> None:
    """A wrong value, line or header of the orders is refused with file, line and column."""
    files.spoil(files.orders, good, bad)
    assert files.problems()[0].startswith(f"orders.csv, {problem}")


@pytest.mark.parametrize(
    ("good", "bad", "problem"),
    [
        (b"14.75,", b"NaN,", f"line 3, column unit_price: 'NaN'{NUMBER}"),
        (b"14.75,", b"-14.75,", f"line 3, column unit_price: '-14.75'{NUMBER}"),
        (b"14.75,", b"1e9,", f"line 3, column unit_price: '1e9'{NUMBER}"),
        (b"14.75,", '"١٤",'.encode(), f"line 3, column unit_price: '١٤'{NUMBER}"),
        (b",31,", b",-31,", f"line 9, column quantity: '-31'{WHOLE}"),
        (b",31,", b",0,", f"line 9, column quantity: '0'{WHOLE}"),
        (b",31,", b",3.1,", f"line 9, column quantity: '3.1'{WHOLE}"),
        (b"0.15", b"1.15", f"line 7, column discount: '1.15'{SHARE}"),
        (b"0.15", b"-0.15", f"line 7, column discount: '-0.15'{SHARE}"),
        (b"0.15", b"Infinity", f"line 7, column discount: 'Infinity'{SHARE}"),
        (b"1005,6", b"1006,6", "line 9, column order_id: this order is not in orders.csv"),
        (b"Geitost,2.5,10", b"Geitost,2", "line 2, column discount: the line has 5 values, "),
        (b"order_id", b"order", "line 1, column order_id: the column is missing"),
    ],
)
def test_a_mistake_in_the_lines_is_named_with_its_place(
    files: Files, good: bytes, bad: bytes, problem: str
) -> None:
    """A wrong value, line or header of the lines is refused with file, line and column."""
    files.spoil(files.lines, good, bad)
    assert any(found.startswith(f"lines.csv, {problem}") for found in files.problems())


def test_an_order_without_lines_is_refused(files: Files) -> None:
    """An order that no line belongs to is a mistake of the orders' file."""
    files.spoil(files.lines, b"1003,4,Crispbread,9.99,7,0.05\n", b"")
    assert files.problems() == [
        "orders.csv, line 4, column order_id: this order has no lines in lines.csv"
    ]


def test_all_mistakes_of_both_files_are_found_together(files: Files) -> None:
    """One reading names every wrong value of either file."""
    files.spoil(files.orders, b"2024-03-20", b"soon")
    files.spoil(files.lines, b"14.75", b"cheap")
    places = [problem.partition(":")[0] for problem in files.problems()]
    assert places == [
        "orders.csv, line 6, column shipped_on",
        "lines.csv, line 3, column unit_price",
    ]


def test_a_record_is_named_by_its_first_line(files: Files) -> None:
    """A quoted line break does not shift the numbers of the lines below it, nor its own."""
    files.spoil(files.orders, b"Bergen", b'"Ber\ngen"')
    files.spoil(files.orders, b"2024-03-20", b"soon")
    assert files.problems()[0].startswith("orders.csv, line 7, column shipped_on")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(files: Files, content: bytes) -> None:
    """A file without a header is empty, whatever white space it has."""
    files.orders.write_bytes(content)
    assert files.problems() == ["orders.csv, line 1: the file is empty"]


def test_a_header_alone_is_refused(files: Files) -> None:
    """A file without a single order has probably been cut off."""
    header, _, _ = ORDERS.partition(b"\n")
    files.orders.write_bytes(header)
    assert files.problems()[0] == "orders.csv, line 1: there are no orders below the header"


def test_another_delimiter_is_named(files: Files) -> None:
    """A file with semicolons is told so, and not that all its columns are missing."""
    files.lines.write_bytes(LINES.replace(b",", b";"))
    assert files.problems() == [
        "lines.csv, line 1, column 1: the columns are separated by ';', not by commas"
    ]


def test_utf_16_is_refused_in_one_line(files: Files) -> None:
    """A file in another encoding gives one problem, not one a character."""
    files.orders.write_bytes(ORDERS.decode().encode("utf-16"))
    assert files.problems() == ["orders.csv, line 1, column 1: is not UTF-8"]


def test_a_missing_file_is_named(files: Files) -> None:
    """A path that leads nowhere is reported like every other mistake."""
    files.lines.unlink()
    assert files.problems() == ["lines.csv: cannot be read: No such file or directory"]


def test_a_folder_is_no_file(files: Files) -> None:
    """A path that leads to a folder is reported like every other mistake."""
    files.lines.unlink()
    files.lines.mkdir()
    assert files.problems() == ["lines.csv: cannot be read: Is a directory"]


def test_what_a_terminal_would_obey_is_not_printed(files: Files) -> None:
    """Escape characters of a stranger never come out of an error message."""
    files.spoil(files.orders, b",city,", b",c\x1b[31mity,")
    files.spoil(files.orders, b",USA", b"")
    files.spoil(files.orders, b"Elgin", b"\xff")
    files.spoil(files.orders, b"2024-03-20", b"\x1b[2J")
    assert "\x1b" not in "".join(files.problems())
