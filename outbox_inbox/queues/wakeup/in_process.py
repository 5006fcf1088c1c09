"""How a nudge reaches a loop in another thread of this process, without a server in between."""

import threading
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

_listening: list[tuple[AbstractSet[str], int, Callable[[], None]]] = []
"""Labels of contexts, the id of the thread that listens, and what to call."""


@contextmanager
def listening(labels: AbstractSet[str], ring: Callable[[], None]) -> Iterator[None]:
    """Have a function called for each nudge for some contexts, within the block."""
    # Not for nudges of this thread: it moves messages itself, and would wake itself up for ever.
    entry = (labels, threading.get_ident(), ring)
    _listening.append(entry)
    try:
        yield
    finally:
        _listening.remove(entry)


def ring_other_threads(label: str) -> None:
    """Call what other threads of this process want called for a context."""
    for labels, thread, ring in tuple(_listening):
        if label in labels and thread != threading.get_ident():
            ring()
