"""``manage.py discard_messages``: discard messages for good."""

from argparse import ArgumentParser
from typing import Any

from outbox_inbox.management.base import WrongUsage
from outbox_inbox.management.selection import (
    NONE_QUARANTINED,
    DeadLetterCommand,
    quarantine_selection,
)
from outbox_inbox.management.wording import counted
from outbox_inbox.operations import discard, discard_quarantined

_QUEUED_ONLY = ("key", "consumer", "unfinished")
_QUARANTINED_ONLY = ("source", "kept_for")


class Command(DeadLetterCommand):
    help = (
        "Discard dead messages for good; with --id or --unfinished, messages in any unfinished "
        "state. Messages that they block continue without them. With --queue quarantine, discard "
        "quarantined messages."
    )
    queues = ("outbox", "inbox", "both", "quarantine")
    reason_option = "--kept-for"
    done, would = "Discarded", "Would discard"
    nothing = "none of the selected messages is dead (see --unfinished)"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--reason", required=True, metavar="TEXT", help="store this reason with each message"
        )
        parser.add_argument(
            "--unfinished",
            action="store_true",
            help="also discard messages that are not dead: due, scheduled, backing off, or waiting",
        )

    def work(self, options: dict[str, Any]) -> None:
        if not options["reason"].strip():
            raise WrongUsage("--reason is empty: the next operator will need to know why")
        if options["queue"] == "quarantine":
            self._discard_quarantined(options)
            return
        for name in _QUARANTINED_ONLY:
            if options[name]:
                option = name.replace("_", "-")
                raise WrongUsage(f"--{option} selects quarantined messages: add --queue quarantine")
        selection = self.selection(options)
        report = discard(
            selection,
            options["reason"],
            unfinished=options["unfinished"],
            dry_run=options["dry_run"],
        )
        self.print_counts(report, selection, options)

    def _discard_quarantined(self, options: dict[str, Any]) -> None:
        for name in _QUEUED_ONLY:
            if options[name]:
                raise WrongUsage(f"--{name} does not select quarantined messages: leave it out")
        selection = quarantine_selection(options, options["kept_for"])
        count = discard_quarantined(selection, options["reason"], dry_run=options["dry_run"])
        report = counted(count, "quarantined message") if count else ""
        self.print_quarantine_report(report, selection, options, nothing=NONE_QUARANTINED)
