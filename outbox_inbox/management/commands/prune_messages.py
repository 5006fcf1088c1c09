"""``manage.py prune_messages``: remove what is finished and old."""

from argparse import ArgumentParser
from typing import Any

from outbox_inbox.management.arguments import chosen_contexts, duration
from outbox_inbox.management.base import QueueCommand
from outbox_inbox.management.wording import counted
from outbox_inbox.operations import prune


class Command(QueueCommand):
    shared_options = ("--context", "--dry-run")
    help = (
        "Remove finished messages, deliveries and payloads that are older than RETENTION, and message "
        "ids that are older than DEDUPLICATION. Unfinished messages, quarantined messages and stored "
        "events are never removed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--older-than",
            type=duration,
            metavar="DURATION",
            help="remove what is older than this, such as 12h or 7d; default: the setting RETENTION",
        )

    def work(self, options: dict[str, Any]) -> None:
        dry_run = options["dry_run"]
        found = prune(chosen_contexts(options), older_than=options["older_than"], dry_run=dry_run)
        parts = [
            counted(sum(each.outbox for each in found), "outbox message"),
            counted(sum(each.deliveries for each in found), "delivery", "deliveries"),
            counted(sum(each.payloads for each in found), "payload"),
            counted(sum(each.inbox for each in found), "inbox message"),
        ]
        if quarantined := sum(each.quarantine for each in found):
            several = "messages from quarantine"
            parts.append(counted(quarantined, "message from quarantine", several))
        if ended := sum(each.processes for each in found):
            parts.append(counted(ended, "finished process", "finished processes"))
        verb = "Would remove" if dry_run else "Removed"
        self.print_summary(f"{verb} {', '.join(parts)}.", options)
