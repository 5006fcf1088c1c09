"""Which messages retry_messages, discard_messages and release_messages are about."""

from argparse import ArgumentParser
from typing import Any, ClassVar
from uuid import UUID

from outbox_inbox.models import Queue
from outbox_inbox.operations import ChangedRows, Selection

from .base import QueueCommand, WrongUsage, add_dry_run, counted


class SolveCommand(QueueCommand):
    """A command about messages that failed."""

    nothing: ClassVar[str]
    """Why nothing was changed, when nothing was."""
    queues: ClassVar[tuple[str, ...]] = ("outbox", "inbox", "both")
    """What --queue may be."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options that select."""
        parser.add_argument("--context", required=True, metavar="LABEL", help="the context")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--all", action="store_true", help="all that failed in the context")
        which.add_argument("--type", metavar="TYPE", help="those of a type, as it is stored")
        which.add_argument("--key", metavar="KEY", help="those of a key")
        which.add_argument("--id", metavar="UUID", help="the message with this id")
        self.add_which(which)
        parser.add_argument(
            "--queue",
            choices=self.queues,
            default="both",
            help=f"where to look, one of {', '.join(self.queues)}; default: outbox and inbox",
        )
        parser.add_argument(
            "--consumer", metavar="NAME", help="only deliveries to this consumer (in the inbox)"
        )
        add_dry_run(parser)

    def add_which(self, which: Any) -> None:
        """Add other ways to select to the group of them."""

    def selection(self, options: dict[str, Any]) -> Selection:
        """Return what the options select.

        Raises:
            WrongUsage: a consumer in the outbox; an id that is no UUID.
        """
        queue = None if options["queue"] == "both" else Queue(options["queue"])
        if options["consumer"] is not None and queue == Queue.OUTBOX:
            raise WrongUsage("a message of the outbox has no consumer; leave out --queue outbox")
        return Selection(
            context=options["context"],
            queue=queue,
            type=options["type"],
            key=options["key"],
            id=_uuid(options["id"]),
            consumer=options["consumer"],
        )

    def report(self, report: ChangedRows, verb: str, options: dict[str, Any]) -> None:
        """Sum up, such as "Retried 1 outbox message, 2 deliveries."."""
        parts = [
            counted(report.outbox, "outbox message"),
            counted(report.inbox, "delivery", "deliveries"),
        ]
        if not report.total:
            self.say(f"{verb} nothing: {self.nothing}.", options, good=False)
            return
        self.say(f"{verb} {' and '.join(parts)}.", options)


def _uuid(given: UUID | str | None) -> UUID | None:
    if given is None or isinstance(given, UUID):
        return given
    try:
        return UUID(given)
    except ValueError as error:
        raise WrongUsage(f"--id {given!r} is no UUID, as every id of these queues is") from error
