"""Which messages retry_messages and discard_messages are about."""

from argparse import ArgumentParser
from typing import Any, ClassVar
from uuid import UUID

from outbox_inbox.models import Queue
from outbox_inbox.operations import Report, Selection

from .base import QueueCommand, WrongUsage, add_dry_run, counted


class SolveCommand(QueueCommand):
    """A command about messages that failed."""

    nothing: ClassVar[str]
    """Why nothing was changed, when nothing was."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options that select."""
        parser.add_argument("--context", required=True, metavar="LABEL", help="the context")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--all", action="store_true", help="all that failed in the context")
        which.add_argument("--type", metavar="TYPE", help="those of a type, as it is stored")
        which.add_argument("--key", metavar="KEY", help="those of a key")
        which.add_argument("--id", type=UUID, metavar="UUID", help="the message with this id")
        parser.add_argument(
            "--queue",
            choices=("outbox", "inbox", "both"),
            default="both",
            help="where to look; default: both",
        )
        parser.add_argument(
            "--consumer", metavar="NAME", help="only deliveries to this consumer (in the inbox)"
        )
        add_dry_run(parser)

    def selection(self, options: dict[str, Any]) -> Selection:
        """Return what the options select.

        Raises:
            WrongUsage: a consumer in the outbox.
        """
        queue = None if options["queue"] == "both" else Queue(options["queue"])
        if options["consumer"] is not None and queue == Queue.OUTBOX:
            raise WrongUsage("a message of the outbox has no consumer; leave out --queue outbox")
        id_ = options["id"]
        return Selection(
            context=options["context"],
            queue=queue,
            type=options["type"],
            key=options["key"],
            id=id_ if id_ is None or isinstance(id_, UUID) else UUID(id_),
            consumer=options["consumer"],
        )

    def report(self, report: Report, verb: str, options: dict[str, Any]) -> None:
        """Sum up, such as "Retried 1 outbox message, 2 deliveries."."""
        parts = [
            counted(report.outbox, "outbox message"),
            counted(report.inbox, "delivery", "deliveries"),
        ]
        if not report.total:
            self.say(f"{verb} nothing: {self.nothing}.", options, good=False)
            return
        self.say(f"{verb} {' and '.join(parts)}.", options)
