"""``manage.py prune_messages``."""

from argparse import ArgumentParser
from typing import Any

from outbox_inbox.management.arguments import duration
from outbox_inbox.management.base import (
    QueueCommand,
    add_contexts,
    add_dry_run,
    chosen_contexts,
    counted,
)
from outbox_inbox.operations import prune


class Command(QueueCommand):
    """Remove what is finished and old."""

    help = (
        "Remove finished messages and deliveries that are older than RETENTION, and message ids "
        "older than DEDUPLICATION. Nothing unfinished or quarantined and no stored event is ever "
        "removed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --older-than, --context and --dry-run."""
        add_contexts(parser)
        parser.add_argument(
            "--older-than",
            type=duration,
            metavar="DURATION",
            help="such as 12h or 7d; default: the setting RETENTION",
        )
        add_dry_run(parser)

    def work(self, options: dict[str, Any]) -> None:
        """Prune, and count."""
        dry_run = options["dry_run"]
        found = prune(chosen_contexts(options), older_than=options["older_than"], dry_run=dry_run)
        parts = [
            counted(sum(each.outbox for each in found), "outbox message"),
            counted(sum(each.deliveries for each in found), "delivery", "deliveries"),
            counted(sum(each.inbox for each in found), "inbox message"),
        ]
        if aside := sum(each.quarantine for each in found):
            several = "messages that had been kept aside"
            parts.append(counted(aside, "message that had been kept aside", several))
        if ended := sum(each.processes for each in found):
            parts.append(counted(ended, "finished process", "finished processes"))
        self.say(f"{'Would remove' if dry_run else 'Removed'} {', '.join(parts)}.", options)
