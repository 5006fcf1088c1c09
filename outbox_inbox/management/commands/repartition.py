"""``manage.py repartition``: bring the queues in line with the setting PARTITIONS."""

from typing import Any

from outbox_inbox.management.arguments import chosen_contexts
from outbox_inbox.management.base import QueueCommand
from outbox_inbox.management.wording import counted
from outbox_inbox.operations import repartition


class Command(QueueCommand):
    shared_options = ("--context", "--dry-run")
    help = (
        "Distribute unfinished messages over the number of partitions in the settings. Run it when "
        "every process has the new settings. Until then, workers refuse to work."
    )

    def work(self, options: dict[str, Any]) -> None:
        dry_run = options["dry_run"]
        for each in repartition(chosen_contexts(options), dry_run=dry_run):
            moved = "to be moved" if dry_run else "moved"
            self.print_summary(
                f"{each.context} {each.queue.value}: {each.before} -> "
                f"{counted(each.after, 'partition')}, {each.moved:,} {moved}",
                options,
            )
