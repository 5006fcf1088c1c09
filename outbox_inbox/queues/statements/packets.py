"""Rows for statements that every server takes, however large each of the rows is.

MySQL and MariaDB refuse a statement that is larger than ``max_allowed_packet``, and end the
connection. It would be refused again at every try, with all the messages that came together.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

R = TypeVar("R")

PACKET: Final = 1_000_000
"""Bytes of a statement of more than one row: the smallest default that a server ever had is 1 MB."""

_OTHERWISE: Final = 300  # bytes of all values of a row that are neither text nor bytes


def packets(
    rows: Iterable[R], values: Callable[[R], Iterable[Any]], most: int
) -> Iterator[list[R]]:
    """Yield rows in order, as many at a time as one statement may have.

    Arguments:
        values: returns the values of a row, at least those that may be large.
        most: rows in a statement, however small they are.
    """
    packet: list[R] = []
    size = 0
    for row in rows:
        length = _OTHERWISE + sum(map(_literal_size, values(row)))
        if packet and (len(packet) == most or size + length > PACKET):
            yield packet
            packet, size = [], 0
        packet.append(row)
        size += length
    if packet:
        yield packet


def _literal_size(value: Any) -> int:
    """Return how many bytes a value takes in a statement at most."""
    if isinstance(value, str):
        # Quotes, backslashes and control characters, which are ASCII, become two bytes each.
        return 2 * len(value) if value.isascii() else 2 * len(value.encode())
    return 2 * len(value) if isinstance(value, bytes | memoryview) else 0
