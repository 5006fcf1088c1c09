"""``manage.py repartition``: put the setting PARTITIONS and the source of contexts in force."""

from typing import Any

from outbox_inbox.management.arguments import chosen_contexts
from outbox_inbox.management.base import QueueCommand
from outbox_inbox.management.wording import counted
from outbox_inbox.operations import repartition


class Command(QueueCommand):
    shared_options = ("--context", "--dry-run")
    help = (
        "Put the number of partitions and the source of each context that the settings name in force, "
        "and move unfinished messages accordingly. Until then all processes, with old and with new "
        "settings, go on with what is in force."
    )

    def work(self, options: dict[str, Any]) -> None:
        dry_run = options["dry_run"]
        for each in repartition(chosen_contexts(options), dry_run=dry_run):
            moved = "to be moved" if dry_run else "moved"
            source = "" if each.source is None else f", source {each.source}"
            self.print_summary(
                f"{each.context} {each.queue.value}: {each.before} -> "
                f"{counted(each.after, 'partition')}, {each.moved:,} {moved}{source}",
                options,
            )
