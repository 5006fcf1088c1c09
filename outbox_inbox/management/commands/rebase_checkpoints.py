"""``manage.py rebase_checkpoints``."""

from argparse import ArgumentParser
from typing import Any

from outbox_inbox.management.arguments import (
    add_contexts,
    add_dry_run,
    add_format,
    chosen_contexts,
)
from outbox_inbox.management.base import QueueCommand
from outbox_inbox.management.wording import counted
from outbox_inbox.operations import rebase


class Command(QueueCommand):
    """Adapt the checkpoints of a restored database to its new server."""

    help = (
        "Rebase the checkpoints of a PostgreSQL database that was restored from a dump: express "
        "what each subscription has handled in the transaction ids of this server. Until then, "
        "subscriptions refuse to work. Run it before anything is recorded there. On SQLite it "
        "does nothing. In a database that was not restored it does no harm."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --context, --dry-run and --format."""
        add_contexts(parser)
        add_dry_run(parser)
        add_format(parser)

    def work(self, options: dict[str, Any]) -> None:
        """Rebase, and report how many events each subscription has still to handle."""
        found = rebase(chosen_contexts(options), dry_run=options["dry_run"])
        if options["format"] == "json":
            rows = [
                {"context": each.context, "subscription": each.subscription, "left": each.left}
                for each in found
            ]
            self.print_json({"subscriptions": rows, "dry_run": options["dry_run"]})
            return
        verb = "would be rebased" if options["dry_run"] else "rebased"
        for each in found:
            left = counted(each.left, "event")
            self.print_summary(
                f"{each.context} {each.subscription}: {verb}, {left} to be handled", options
            )
        if not found:
            self.print_summary("Nothing to rebase: no subscription is on PostgreSQL.", options)
