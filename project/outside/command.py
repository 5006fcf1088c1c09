"""What the two commands have in common: do a day of business, show it, and judge it."""

from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from time import monotonic
from typing import Any

from django.core.management.base import CommandError

from outbox_inbox.management.arguments import add_format
from outbox_inbox.management.base import ProblemFound, QueueCommand
from outbox_inbox.management.progress import Advance, progress_display
from outbox_inbox.operations.running import Interrupt

from .business import PATIENCE, Day
from .checking import unfinished
from .deployed import all_here, names
from .hops import count_hops
from .orders import OutsideOrder
from .report import Report, board

_SHOWN = 20  # problems


def nothing_more() -> Iterable[str]:
    """Check nothing more."""
    return ()


class OutsideCommand(QueueCommand):
    """A command that plays the outside world, and reports what came of it."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what both commands know."""
        add_format(parser)

    def play(
        self,
        orders: Sequence[OutsideOrder],
        options: dict[str, Any],
        check: Callable[[], Iterable[str]] = nothing_more,
    ) -> None:
        """Do business with the orders and print a report.

        Arguments:
            check: says at the end what else is wrong.

        Raises:
            ProblemFound: all was done, and something is not as it should be.
            CommandError: a signal has stopped it.
        """

        def show(title: str, total: int | None) -> AbstractContextManager[Advance]:
            return progress_display(title, total, self.stderr, options)

        begun, before = monotonic(), count_hops()
        with Interrupt().installed() as stop:
            patience = timedelta(seconds=options.get("wait") or PATIENCE.total_seconds())
            day = Day(show=show, stop=stop, wait=stop.wait, patience=patience)
            day.spend(orders)
        if stop():
            raise CommandError("stopped by a signal; the same command again does what is left")
        problems = [*day.problems, *unfinished(day.queues)] or list(check())
        report = Report(
            orders=len(orders),
            day=day,
            seconds=monotonic() - begun,
            before=before,
            after=count_hops(),
            board=board(),
            queues=day.queues,
            problems=problems,
        )
        if options["format"] == "json":
            self.print_json(report.as_json())
        else:
            self.stdout.write(report.as_text())
        if problems:
            raise ProblemFound(at_most(problems))
        if options["format"] == "text":
            where = "" if all_here() else f" in {names()}"
            self.print_summary(
                f"\nAll is well{where}: nothing is dead, and nothing is left over.", options
            )


def at_most(problems: Sequence[object]) -> str:
    """Return the problems, one a line, and how many more there are."""
    more = len(problems) - _SHOWN
    rest = [f"... and {more} more"] if more > 0 else []
    return "\n".join(map(str, [*problems[:_SHOWN], *rest]))
