"""``manage.py rename_consumer``: let unfinished deliveries follow a consumer to its new name."""

from argparse import ArgumentParser
from typing import Any

from outbox_inbox.contexts import get_context
from outbox_inbox.management.base import QueueCommand
from outbox_inbox.management.wording import counted
from outbox_inbox.operations import rename_consumers


class Command(QueueCommand):
    shared_options = ("--dry-run", "--format")
    help = (
        "Give the unfinished deliveries of consumers that were renamed, or put together, to the "
        "consumer that the code has now; the order of each key is kept. Workers may run. Run it with "
        "the new code, before its processes start: from then on only the new name gets messages."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--context", required=True, metavar="LABEL", help="of this context")
        parser.add_argument("old", nargs="+", metavar="OLD", help="a name that the code had before")
        parser.add_argument("new", metavar="NEW", help="the name that the code has now")
        parser.add_argument(
            "--repeat",
            action="store_true",
            help="let NEW handle messages that some of the old consumers have handled already",
        )

    def work(self, options: dict[str, Any]) -> None:
        context, new = get_context(options["context"]), options["new"]
        old = list(dict.fromkeys(options["old"]))
        done = rename_consumers(
            context, old, new, repeat=options["repeat"], dry_run=options["dry_run"]
        )
        document = {
            "context": context.label,
            "old": old,
            "new": new,
            "moved": done.moved,
            "merged": done.merged,
            "handled": done.handled,
            "repeated": done.repeated,
        }
        would = "Would give" if options["dry_run"] else "Gave"
        lines = [
            f"{would} {counted(done.moved, 'unfinished delivery', 'unfinished deliveries')} to {new}."
        ]
        if done.merged or done.handled:
            already = counted(done.merged + done.handled, "delivery", "deliveries")
            lines.append(f"{new} had the messages of {already} already.")
        if done.repeated:
            lines.append(f"{new} handles {counted(done.repeated, 'message')} once more.")
        self.print_result(document, lines, options)
