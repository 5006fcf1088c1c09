"""``manage.py discard_messages``."""

from argparse import ArgumentParser
from typing import Any

from outbox_inbox.management.base import WrongUsage, counted
from outbox_inbox.management.selection import SolveCommand
from outbox_inbox.models import QuarantineReason
from outbox_inbox.operations import QuarantineSelection, discard, discard_quarantined

_QUEUED_ONLY = ("key", "consumer", "unfinished")
_QUARANTINED_ONLY = ("source", "kept_for")


class Command(SolveCommand):
    """Set messages aside."""

    help = (
        "Set messages aside for good: those that are dead, or, with --id or --unfinished, in any "
        "unfinished state. What waits behind them goes on. With --queue quarantine: those that "
        "were kept aside when they came."
    )
    queues = ("outbox", "inbox", "both", "quarantine")

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

    def add_which(self, which: Any) -> None:
        """Add what only quarantined messages are selected by."""
        which.add_argument(
            "--source", metavar="SOURCE", help="quarantined ones of a source, such as /shop"
        )
        which.add_argument(
            "--kept-for",
            choices=QuarantineReason.values,
            metavar="REASON",
            help=f"those quarantined for a reason: {', '.join(QuarantineReason.values)}",
        )

    def work(self, options: dict[str, Any]) -> None:
        """Discard, and count."""
        if not options["reason"].strip():
            raise WrongUsage("--reason is empty: whoever finds the message later wants to know")
        if options["queue"] == "quarantine":
            self._discard_quarantined(options)
            return
        for name in _QUARANTINED_ONLY:
            if options[name]:
                option = name.replace("_", "-")
                raise WrongUsage(f"--{option} selects quarantined messages: add --queue quarantine")
        report = discard(
            self.selection(options),
            options["reason"],
            unfinished=options["unfinished"],
            dry_run=options["dry_run"],
        )
        self.report(report, "Would discard" if options["dry_run"] else "Discarded", options)

    def _discard_quarantined(self, options: dict[str, Any]) -> None:
        for name in _QUEUED_ONLY:
            if options[name]:
                raise WrongUsage(f"a quarantined message is not selected by --{name}")
        id_, reason = options["id"], options["kept_for"]
        selection = QuarantineSelection(
            context=options["context"],
            type=options["type"],
            source=options["source"],
            reason=None if reason is None else QuarantineReason(reason),
            id=None if id_ is None else str(id_),
        )
        count = discard_quarantined(selection, options["reason"], dry_run=options["dry_run"])
        verb = "Would discard" if options["dry_run"] else "Discarded"
        if count:
            self.say(f"{verb} {counted(count, 'quarantined message')}.", options)
        else:
            text = f"{verb} nothing: none of the selected messages is quarantined."
            self.say(text, options, good=False)
