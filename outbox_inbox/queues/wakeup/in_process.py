"""How a nudge reaches a loop in another thread of this process, without a server in between."""

import threading
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import NamedTuple


class _ListeningThread(NamedTuple):
    labels: AbstractSet[str]
    thread: int
    ring: Callable[[], None]


_listening: list[_ListeningThread] = []


@contextmanager
def listening(labels: AbstractSet[str], ring: Callable[[], None]) -> Iterator[None]:
    """Have a function called for each nudge for some contexts, within the block.

    Nudges of the thread that entered the block are not for it: it moves messages itself, and would
    wake itself up for ever.
    """
    entry = _ListeningThread(labels, threading.get_ident(), ring)
    _listening.append(entry)
    try:
        yield
    finally:
        _listening.remove(entry)


def ring_other_threads(label: str) -> None:
    """Call what other threads of this process want called for a context."""
    for each in tuple(_listening):
        if label in each.labels and each.thread != threading.get_ident():
            each.ring()
