"""``manage.py release_messages``."""

from argparse import ArgumentParser
from typing import Any

from outbox_inbox.management.base import QueueCommand, SomethingIsWrong, add_dry_run, counted
from outbox_inbox.models import QuarantineReason
from outbox_inbox.operations import QuarantineSelection, Released, release


class Command(QueueCommand):
    """Let quarantined messages in."""

    help = (
        "Judge quarantined messages again, with the code and the settings of now, and let into "
        "the inbox what passes, behind what was received since. Exit code 3 when some stay aside."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options that select."""
        parser.add_argument("--context", required=True, metavar="LABEL", help="the context")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--all", action="store_true", help="all that the context keeps aside")
        which.add_argument(
            "--type", metavar="TYPE", help="those of a type: shop.sold.v1, or shop.sold"
        )
        which.add_argument("--source", metavar="SOURCE", help="those of a source, such as /shop")
        which.add_argument(
            "--reason",
            choices=QuarantineReason.values,
            metavar="REASON",
            help=f"those kept aside for a reason: {', '.join(QuarantineReason.values)}",
        )
        which.add_argument("--id", metavar="ID", help="those with this id, as their sender has it")
        add_dry_run(parser)

    def work(self, options: dict[str, Any]) -> None:
        """Release, count, and say what stays."""
        reason = options["reason"]
        found = release(
            QuarantineSelection(
                context=options["context"],
                type=options["type"],
                source=options["source"],
                reason=None if reason is None else QuarantineReason(reason),
                id=options["id"],
            ),
            dry_run=options["dry_run"],
        )
        verb = "Would release" if options["dry_run"] else "Released"
        if not (found.released or found.staying):
            text = f"{verb} nothing: none of the selected messages is quarantined."
            self.say(text, options, good=False)
            return
        self.say(f"{verb} {counted(found.released, 'message')}.", options, good=not found.staying)
        if found.staying:
            raise SomethingIsWrong(_staying(found))


def _staying(found: Released) -> str:
    reasons = ", ".join(f"{count:,} {each.label}" for each, count in sorted(found.kept.items()))
    stay = "1 stays" if found.staying == 1 else f"{found.staying:,} stay"
    if not found.cut:
        return f"{stay} aside: {reasons}"
    return (
        f"{stay} aside: {reasons}. Of {found.cut:,} only the beginning was kept (MAX_PAYLOAD): "
        "it cannot be released; have it sent again"
    )
