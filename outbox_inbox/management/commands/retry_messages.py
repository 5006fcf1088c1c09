"""``manage.py retry_messages``: retry messages that failed."""

from typing import Any

from outbox_inbox.management.selection import DeadLetterCommand
from outbox_inbox.operations import retry


class Command(DeadLetterCommand):
    help = (
        "Retry messages that are dead or backing off, at once and with all their attempts. "
        "Messages that they block continue after a successful retry."
    )
    done, would = "Retried", "Would retry"
    nothing = "none of the selected messages is dead or backing off"

    def work(self, options: dict[str, Any]) -> None:
        selection = self.selection(options)
        self.print_counts(retry(selection, dry_run=options["dry_run"]), selection, options)
