"""The base of the two commands: run a business day, report it, and verify it."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from time import monotonic
from typing import Any

from django.core.management.base import CommandError

from outbox_inbox.management.base import ProblemFound, QueueCommand
from outbox_inbox.management.progress import Advance, progress_display
from outbox_inbox.operations.running import Interrupt

from .business_day import PATIENCE, BusinessDay
from .customer_order import CustomerOrder
from .deployment import both_deployed, deployed_labels
from .hops import count_hops
from .report import DayReport, country_board
from .verification import unfinished_queues

_SHOWN = 20  # problems


class SimulationCommand(QueueCommand):
    """A command that runs a business day, and reports the results."""

    shared_options = ("--format",)

    def run_day(
        self,
        orders: Sequence[CustomerOrder],
        options: dict[str, Any],
        verify: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """Run a business day with the orders, and print a report.

        Arguments:
            verify: returns at the end what else is wrong.

        Raises:
            ProblemFound: the day is complete, and something is not as it should be.
            CommandError: a signal has stopped it.
        """
        begun, before = monotonic(), count_hops()
        day = self._run_until_stopped(orders, options)
        problems = [*day.problems, *unfinished_queues(day.queues)] or list(verify())
        report = DayReport(
            orders=len(orders),
            day=day,
            seconds=monotonic() - begun,
            before=before,
            after=count_hops(),
            board=country_board(),
            queues=day.queues,
            problems=problems,
        )
        self.print_document(report.as_json(), report.as_text().split("\n"), options)
        if problems:
            raise ProblemFound(at_most(problems))
        if options["format"] == "text":
            where = "" if both_deployed() else f" in {deployed_labels()}"
            self.print_summary("", options)
            self.print_summary(
                f"All is well{where}: nothing is dead, and nothing is left over.", options
            )

    def _run_until_stopped(
        self, orders: Sequence[CustomerOrder], options: dict[str, Any]
    ) -> BusinessDay:
        def show(title: str, total: int | None) -> AbstractContextManager[Advance]:
            return progress_display(title, total, self.stderr, options)

        with Interrupt().installed() as stop:
            patience = timedelta(seconds=options.get("wait") or PATIENCE.total_seconds())
            day = BusinessDay(show=show, stop=stop, wait=stop.wait, patience=patience)
            day.run(orders)
        if stop():
            raise CommandError("stopped by a signal; run the same command again to continue")
        return day


def at_most(problems: Sequence[object]) -> str:
    """Return the problems, one a line, and how many more there are."""
    more = len(problems) - _SHOWN
    rest = [f"... and {more} more"] if more > 0 else []
    return "\n".join(map(str, [*problems[:_SHOWN], *rest]))
