"""Show the progress of a command: a bar on a terminal if rich is installed, else plain lines."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any

from django.core.management.base import OutputWrapper

from outbox_inbox.conf.clock import monotonic

LINE_INTERVAL = 2.0
"""Seconds between two plain lines."""

Advance = Callable[[int], None]


def progress_display(
    title: str, total: int | None, stderr: OutputWrapper, options: dict[str, Any]
) -> AbstractContextManager[Advance]:
    """Return a block in which standard error shows progress, with rate and time left.

    It yields a function to call with the number of items that were done since the last call.

    Arguments:
        title: what is done.
        total: how many items there are at the start; None: unknown.
        stderr: the command's standard error.
        options: the command's options; ``--verbosity 0`` shows nothing, ``--no-color`` no colour.
    """
    if options["verbosity"] < 1:
        return nullcontext(lambda _count: None)
    if stderr.isatty() and find_spec("rich"):
        return _bar_display(title, total, no_color=options["no_color"])
    return _line_display(title, total, stderr)


@contextmanager
def _bar_display(title: str, total: int | None, *, no_color: bool) -> Iterator[Advance]:
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TimeRemainingColumn(),
    )
    console = Console(stderr=True, no_color=no_color or None, soft_wrap=True)
    with bars.Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total, rate="")
        count = _Count(total)

        def advance(more: int) -> None:
            count.add(more)
            progress.update(task, completed=count.done, total=count.total, rate=count.rate)

        yield advance


@contextmanager
def _line_display(title: str, total: int | None, stderr: OutputWrapper) -> Iterator[Advance]:
    count = _Count(total)
    last = monotonic()

    def advance(more: int) -> None:
        nonlocal last
        count.add(more)
        if monotonic() - last >= LINE_INTERVAL:
            last = monotonic()
            stderr.write(f"{title}: {count}", style_func=str)

    yield advance


class _Count:
    """How many items are done, how fast, and how many are left."""

    def __init__(self, total: int | None) -> None:
        self.done = 0
        self.total = total
        self._begin = monotonic()

    def add(self, more: int) -> None:
        self.done += more
        if self.total is not None:
            # Handling a message may make new ones: the end moves, and is never passed.
            self.total = max(self.total, self.done)

    @property
    def rate(self) -> str:
        return f"{self._per_second:,.0f}/s"

    @property
    def _per_second(self) -> float:
        return self.done / max(monotonic() - self._begin, 0.001)

    def __str__(self) -> str:
        if self.total is None:
            return f"{self.done:,} ({self.rate})"
        left = (self.total - self.done) / max(self._per_second, 0.001)
        return f"{self.done:,} of {self.total:,} ({self.rate}, {left:.0f} s left)"
