"""``manage.py rebase_checkpoints``."""

from argparse import ArgumentParser
from typing import Any

from outbox_inbox.management.base import (
    QueueCommand,
    add_contexts,
    add_dry_run,
    add_format,
    chosen_contexts,
    counted,
)
from outbox_inbox.operations import rebase


class Command(QueueCommand):
    """Make the checkpoints of a database that was restored from a dump its own."""

    help = (
        "After a PostgreSQL database was restored from a dump: tell all subscriptions what they "
        "have handled by the transaction ids of this server. Until then they refuse to work. Run "
        "it before anything is recorded there. On SQLite, and in a database that was not "
        "restored, there is nothing to do, and it does no harm."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --context, --dry-run and --format."""
        add_contexts(parser)
        add_dry_run(parser)
        add_format(parser)

    def work(self, options: dict[str, Any]) -> None:
        """Rebase, and say what each subscription has still to handle."""
        found = rebase(chosen_contexts(options), dry_run=options["dry_run"])
        if options["format"] == "json":
            rows = [
                {"context": each.context, "subscription": each.subscription, "left": each.unhandled}
                for each in found
            ]
            self.write_json({"subscriptions": rows, "dry_run": options["dry_run"]})
            return
        would = "would be rebased" if options["dry_run"] else "rebased"
        for each in found:
            left = counted(each.unhandled, "event")
            self.say(f"{each.context} {each.subscription}: {would}, {left} to be handled", options)
        if not found:
            self.say("No subscription on PostgreSQL: nothing to rebase.", options)
