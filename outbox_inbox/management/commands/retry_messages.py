"""``manage.py retry_messages``."""

from typing import Any

from outbox_inbox.management.selection import SolveCommand
from outbox_inbox.operations import retry


class Command(SolveCommand):
    """Try messages again."""

    help = (
        "Try messages again at once, with all their attempts: those that are dead or back off "
        "after a failure. What waits behind them goes on as soon as they have succeeded."
    )

    nothing = "none of the selected messages is dead or backing off"

    def work(self, options: dict[str, Any]) -> None:
        """Retry, and count."""
        report = retry(self.selection(options), dry_run=options["dry_run"])
        self.report(report, "Would retry" if options["dry_run"] else "Retried", options)
