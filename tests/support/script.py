"""What the consumers of the test contexts do beside their entry: a test says it by name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Part = Callable[..., Any]

_parts: dict[str, Part] = {}


def play(consumer: str, *arguments: Any, otherwise: Any = None) -> Any:
    """Do what the test wants of this consumer; return `otherwise` if it said nothing."""
    part = _parts.get(consumer)
    return otherwise if part is None else part(*arguments)


@contextmanager
def playing(**parts: Part) -> Iterator[None]:
    """Give parts to consumers, for one block of a test."""
    before = dict(_parts)
    _parts.update(parts)
    try:
        yield
    finally:
        _parts.clear()
        _parts.update(before)
