"""``manage.py repartition``."""

from argparse import ArgumentParser
from typing import Any

from outbox_inbox.management.arguments import add_contexts, add_dry_run, chosen_contexts
from outbox_inbox.management.base import QueueCommand
from outbox_inbox.management.wording import counted
from outbox_inbox.operations import repartition


class Command(QueueCommand):
    """Bring the queues in line with the setting PARTITIONS."""

    help = (
        "Distribute unfinished messages over the number of partitions in the settings. Run it when "
        "every process has the new settings. Until then, workers refuse to work."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --context and --dry-run."""
        add_contexts(parser)
        add_dry_run(parser)

    def work(self, options: dict[str, Any]) -> None:
        """Distribute, and report each queue."""
        dry_run = options["dry_run"]
        for each in repartition(chosen_contexts(options), dry_run=dry_run):
            moved = "to be moved" if dry_run else "moved"
            self.print_summary(
                f"{each.context} {each.queue.value}: {each.before} -> "
                f"{counted(each.after, 'partition')}, {each.moved:,} {moved}",
                options,
            )
