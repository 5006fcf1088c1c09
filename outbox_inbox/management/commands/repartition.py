"""``manage.py repartition``."""

from argparse import ArgumentParser
from typing import Any

from outbox_inbox.management.base import (
    QueueCommand,
    add_contexts,
    add_dry_run,
    chosen_contexts,
    counted,
)
from outbox_inbox.operations import repartition


class Command(QueueCommand):
    """Bring the queues in line with the setting PARTITIONS."""

    help = (
        "Spread what is unfinished over the number of partitions that the settings name. Call it "
        "when every process runs with the new settings; until then workers refuse to work."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --context and --dry-run."""
        add_contexts(parser)
        add_dry_run(parser)

    def work(self, options: dict[str, Any]) -> None:
        """Spread, and say what became of each queue."""
        for each in repartition(chosen_contexts(options), dry_run=options["dry_run"]):
            would = "would have moved" if options["dry_run"] else "moved"
            self.say(
                f"{each.context} {each.queue.value}: {each.before} -> "
                f"{counted(each.after, 'partition')}, {each.moved:,} {would}",
                options,
            )
