"""Lists of names as an operator reads them."""

from collections.abc import Iterable

_MOST = 10


def listed(names: Iterable[str]) -> str:
    """Return names with commas between them; the first ten, and how many more there are."""
    found = list(names)
    more = len(found) - _MOST
    return ", ".join(found[:_MOST]) + (f" and {more} more" if more > 0 else "")
