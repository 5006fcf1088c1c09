"""Reads CSV files strictly: every mistake is reported by file, line and column.

A mistake is noted and replaced by a harmless value, so that reading goes on and all mistakes are
reported together. The caller must check the problems before it uses any value.
"""

import csv
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path

from outbox_inbox.signals.escaping import visible

MAX_TEXT = 100
_SHOWN = 40
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,25})?")
_WHOLE = re.compile(r"[0-9]{1,9}")
_BROKEN = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is (`line` counts from 1, `column` is a name), and what is wrong."""

    file: str
    line: int | None
    column: str | None
    text: str

    def __str__(self) -> str:
        place = [self.file]
        if self.line is not None:
            place.append(f"line {self.line}")
        if self.column is not None:
            place.append(f"column {visible(self.column)}")
        return f"{', '.join(place)}: {self.text}"


@dataclass(frozen=True)
class Row:
    """One record of a table; returns checked values, and notes what is wrong with them."""

    file: str
    line: int
    cells: Mapping[str, str]
    problems: list[Problem] = field(repr=False)

    def refuse(self, column: str, text: str) -> None:
        """Note a problem of one value."""
        self.problems.append(Problem(self.file, self.line, column, text))

    def text(self, column: str) -> str:
        """Return a text of 1 to 100 printable characters."""
        value = self.cells[column]
        if not value:
            self.refuse(column, "the value is empty")
        elif len(value) > MAX_TEXT:
            self.refuse(column, f"{_shown(value)} is longer than {MAX_TEXT} characters")
        elif control := next((one for one in value if unicodedata.category(one) == "Cc"), None):
            self.refuse(column, f"has a control character (U+{ord(control):04X})")
        return value

    def number(self, column: str, *, maximum: int | None = None) -> Decimal:
        """Return a number from 0 to `maximum`, with a point and up to 25 decimals."""
        value = self.cells[column]
        if _NUMBER.fullmatch(value) and (maximum is None or Decimal(value) <= maximum):
            return Decimal(value)
        limit = "from 0" if maximum is None else f"from 0 to {maximum}"
        self.refuse(column, f"{_shown(value)} is not a number {limit}, such as 0.25")
        return Decimal(0)

    def whole_number(self, column: str) -> int:
        """Return a whole number of at least 1."""
        value = self.cells[column]
        if _WHOLE.fullmatch(value) and int(value) > 0:
            return int(value)
        self.refuse(column, f"{_shown(value)} is not a whole number from 1, such as 12")
        return 1

    def day(self, column: str) -> date:
        """Return a day of the calendar, written like 2016-07-04."""
        value = self.cells[column]
        try:
            if _DATE.fullmatch(value):
                return date.fromisoformat(value)
        except ValueError:
            pass  # the form is right, but the calendar does not have this day
        self.refuse(column, f"{_shown(value)} is not a date, such as 2016-07-04")
        return date.min

    def day_or_none(self, column: str) -> date | None:
        """Return a day of the calendar, or None when the value is empty."""
        return self.day(column) if self.cells[column] else None


def read_table(path: Path, columns: Sequence[str], problems: list[Problem]) -> list[Row]:
    """Read the rows of a CSV file (UTF-8, commas, a header) that has at least these columns.

    Mistakes are added to `problems`; a file that cannot be read at all has no rows.
    """
    name = str(path)
    try:
        # Bytes that are not UTF-8 become surrogates, to be reported with line and column.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            records = _records(csv.reader(file, strict=True), name, problems)
            _, header = next(records, (1, []))
            if not _header_fits(header, columns, name, problems):
                return []
            return [
                Row(name, line, dict(zip(header, cells, strict=True)), problems)
                for line, cells in records
                if _record_fits(header, line, cells, name, problems)
            ]
    except OSError as error:
        reason = error.strerror or str(error)
        problems.append(Problem(name, None, None, f"cannot be read: {reason}"))
        return []


def _records(
    reader: Iterator[list[str]], name: str, problems: list[Problem]
) -> Iterator[tuple[int, list[str]]]:
    """Yield each record that is not blank with the line it begins on, its cells trimmed."""
    while True:
        line: int = reader.line_num + 1  # type: ignore[attr-defined]  # csv's reader has it
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            problems.append(Problem(name, line, None, f"is not CSV: {error}"))
            return
        if any(cells):
            yield line, cells


def _header_fits(
    header: Sequence[str], columns: Sequence[str], name: str, problems: list[Problem]
) -> bool:
    before = len(problems)
    numbers = [str(number) for number, _ in enumerate(header, 1)]
    if not header and not problems:
        problems.append(Problem(name, 1, None, "the file is empty"))
    elif len(header) == 1 and (found := re.search(r"[;\t|]", header[0])):
        text = f"the columns are separated by {found[0]!r}, not by commas"
        problems.append(Problem(name, 1, "1", text))
    elif _is_text(numbers, header, 1, name, problems):
        for column in columns:
            if header.count(column) != 1:
                text = "occurs twice in the header" if column in header else "is missing"
                problems.append(Problem(name, 1, column, f"the column {text}"))
    return len(problems) == before


def _record_fits(
    header: Sequence[str], line: int, cells: Sequence[str], name: str, problems: list[Problem]
) -> bool:
    if len(cells) == len(header):
        return _is_text(header, cells, line, name, problems)
    column = header[len(cells)] if len(cells) < len(header) else str(len(header) + 1)
    text = f"the line has {len(cells)} values, and the header {len(header)} columns"
    problems.append(Problem(name, line, column, text))
    return False


def _is_text(
    columns: Sequence[str], cells: Sequence[str], line: int, name: str, problems: list[Problem]
) -> bool:
    for column, cell in zip(columns, cells, strict=True):
        if _BROKEN.search(cell) or "\0" in cell:
            text = "is not UTF-8" if _BROKEN.search(cell) else "has a NUL character"
            problems.append(Problem(name, line, column, text))
            return False
    return True


def _shown(value: str) -> str:
    return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}…"
