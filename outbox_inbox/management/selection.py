"""The options by which retry_messages, discard_messages and release_messages select messages."""

from argparse import ArgumentParser
from typing import Any, ClassVar
from uuid import UUID

from outbox_inbox.models import QuarantineReason, Queue
from outbox_inbox.operations import ChangedRows, QuarantineSelection, Selection

from .arguments import add_dry_run
from .base import QueueCommand, WrongUsage
from .wording import counted

NONE_QUARANTINED = "none of the selected messages is quarantined"


class SelectionCommand(QueueCommand):
    """A command about selected messages of one context.

    Attributes:
        done: what the command has done to them, such as "Retried".
        would: the same for a dry run, such as "Would retry".
        nothing: why none was changed.
    """

    done: ClassVar[str]
    would: ClassVar[str]
    nothing: ClassVar[str]

    def add_selection(self, parser: ArgumentParser, *, all_: str, **ways: str) -> Any:
        """Add --context, --dry-run and ways to select, and return the group of these ways.

        Arguments:
            all_: the messages that --all selects, for its help.
            ways: name of an option with a value -> the messages that it selects, for its help.
        """
        parser.add_argument(
            "--context", required=True, metavar="LABEL", help="select from this context"
        )
        group = parser.add_mutually_exclusive_group(required=True)
        group.add_argument("--all", action="store_true", help=f"select {all_}")
        for name, text in ways.items():
            group.add_argument(f"--{name}", metavar=name.upper(), help=f"select {text}")
        add_dry_run(parser)
        return group

    def print_report(
        self, report: str, options: dict[str, Any], *, good: bool = True, nothing: str = ""
    ) -> None:
        """Print how many messages were changed, or (empty report) why none was."""
        verb = self.would if options["dry_run"] else self.done
        text = f"{verb} {report}." if report else f"{verb} nothing: {nothing or self.nothing}."
        self.print_summary(text, options, good=good and bool(report))


class DeadLetterCommand(SelectionCommand):
    """A command about messages that failed, in the outbox and in the inbox."""

    queues: ClassVar[tuple[str, ...]] = ("outbox", "inbox", "both")
    """The values of --queue."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options that select."""
        self.add_ways(
            self.add_selection(
                parser,
                all_="all messages that failed",
                type="messages of this stored type",
                key="messages of this key",
                id="the message with this id (a UUID)",
            )
        )
        parser.add_argument(
            "--queue",
            choices=self.queues,
            default="both",
            help="search this queue; default: both, the outbox and the inbox",
        )
        parser.add_argument(
            "--consumer",
            metavar="NAME",
            help="select only deliveries to this consumer (in the inbox)",
        )

    def add_ways(self, group: Any) -> None:
        """Add other ways to select to their group."""

    def selection(self, options: dict[str, Any]) -> Selection:
        """Return what the options select.

        Raises:
            WrongUsage: a consumer in the outbox; an id that is not a UUID.
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

    def print_counts(self, report: ChangedRows, options: dict[str, Any]) -> None:
        """Print how many messages of each queue were changed."""
        counts = (
            counted(report.outbox, "outbox message"),
            counted(report.inbox, "delivery", "deliveries"),
        )
        self.print_report(" and ".join(counts) if report.total else "", options)


def add_quarantine_ways(group: Any, reason_option: str) -> None:
    """Add the ways to select that only quarantined messages have."""
    group.add_argument(
        "--source", metavar="SOURCE", help="select quarantined messages of this source, like /shop"
    )
    reasons = QuarantineReason.values
    group.add_argument(
        reason_option,
        choices=reasons,
        metavar="REASON",
        help=f"select messages quarantined for this reason: {', '.join(reasons)}",
    )


def quarantine_selection(options: dict[str, Any], reason: str | None) -> QuarantineSelection:
    """Return the quarantined messages that the options select.

    Arguments:
        reason: for which they were quarantined; None: any.
    """
    return QuarantineSelection(
        context=options["context"],
        type=options["type"],
        source=options["source"],
        reason=None if reason is None else QuarantineReason(reason),
        id=None if options["id"] is None else str(options["id"]),
    )


def _uuid(given: UUID | str | None) -> UUID | None:
    if given is None or isinstance(given, UUID):
        return given
    try:
        return UUID(given)
    except ValueError as error:
        raise WrongUsage(f"--id {given!r} is not a UUID; message ids of the queues are") from error
