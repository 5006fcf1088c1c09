"""Bells: how a nudge gets to a loop in the same process, without a way over a server."""

import threading
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import NamedTuple


class _Bell(NamedTuple):
    labels: AbstractSet[str]
    thread: int
    strike: Callable[[], None]


_hung: list[_Bell] = []


@contextmanager
def hung(labels: AbstractSet[str], strike: Callable[[], None]) -> Iterator[None]:
    """Have a function called for each nudge for some contexts, within the block.

    Nudges of the thread that entered the block are not for it: it knows that it has work, since
    it is at work.
    """
    bell = _Bell(labels, threading.get_ident(), strike)
    _hung.append(bell)
    try:
        yield
    finally:
        _hung.remove(bell)


def ring(label: str) -> None:
    """Strike the bells of other threads for a context."""
    for bell in tuple(_hung):
        if label in bell.labels and bell.thread != threading.get_ident():
            bell.strike()
