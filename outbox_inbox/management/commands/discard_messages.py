"""``manage.py discard_messages``."""

from argparse import ArgumentParser
from typing import Any

from outbox_inbox.management.base import WrongUsage
from outbox_inbox.management.solving import SolveCommand
from outbox_inbox.operations import discard


class Command(SolveCommand):
    """Set messages aside."""

    help = (
        "Set messages aside for good: those that are dead, or, with --id or --unfinished, in any "
        "unfinished state. What waits behind them goes on."
    )

    nothing = "none of the selected messages is dead (see --unfinished)"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --reason and --unfinished to what selects."""
        super().add_arguments(parser)
        parser.add_argument(
            "--reason", required=True, metavar="TEXT", help="why; kept with each message"
        )
        parser.add_argument(
            "--unfinished",
            action="store_true",
            help="also those that are not dead: about to be moved, scheduled, backing off, waiting",
        )

    def work(self, options: dict[str, Any]) -> None:
        """Discard, and count."""
        if not options["reason"].strip():
            raise WrongUsage("--reason is empty: whoever finds the message later wants to know")
        report = discard(
            self.selection(options),
            options["reason"],
            unfinished=options["unfinished"],
            dry_run=options["dry_run"],
        )
        self.report(report, "Would discard" if options["dry_run"] else "Discarded", options)
