"""The options by which retry_messages, discard_messages and release_messages select messages."""

from argparse import ArgumentParser
from typing import Any, ClassVar
from uuid import UUID

from outbox_inbox.models import QuarantineReason, Queue
from outbox_inbox.operations import (
    ChangedRows,
    QuarantineSelection,
    Selection,
    explain_no_quarantined,
    explain_nothing,
)

from .base import QueueCommand, WrongUsage
from .wording import counted

NONE_QUARANTINED = "none of the selected messages is quarantined"


class SelectionCommand(QueueCommand):
    """A command about selected messages of one context.

    Attributes:
        ways: option -> the messages that it selects, for its help; --all has no value.
        reason_option: the option that selects by the reason of quarantine; None: no option.
        done: what the command has done to them, such as "Retried".
        would: the same for a dry run, such as "Would retry".
        nothing: why none was changed.
    """

    shared_options = ("--dry-run",)
    ways: ClassVar[dict[str, str]]
    reason_option: ClassVar[str | None] = None
    done: ClassVar[str]
    would: ClassVar[str]
    nothing: ClassVar[str]

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --context and the ways to select, of which one must be given."""
        super().add_arguments(parser)
        parser.add_argument(
            "--context", required=True, metavar="LABEL", help="select from this context"
        )
        group: Any = parser.add_mutually_exclusive_group(required=True)
        for option, text in self.ways.items():
            value = {"metavar": option[2:].upper()}
            kind = {"action": "store_true"} if option == "--all" else value
            group.add_argument(option, help=f"select {text}", **kind)
        if self.reason_option is not None:
            source = "select quarantined messages of this source, like /shop"
            group.add_argument("--source", metavar="SOURCE", help=source)
            reasons = QuarantineReason.values
            text = f"select messages quarantined for this reason: {', '.join(reasons)}"
            group.add_argument(self.reason_option, choices=reasons, metavar="REASON", help=text)

    def print_report(
        self, report: str, options: dict[str, Any], *, good: bool = True, nothing: str = ""
    ) -> None:
        """Print how many messages were changed, or (empty report) why none was."""
        verb = self.would if options["dry_run"] else self.done
        text = f"{verb} {report}." if report else f"{verb} nothing: {nothing or self.nothing}."
        self.print_summary(text, options, good=good and bool(report))

    def print_quarantine_report(
        self, report: str, selection: QuarantineSelection, options: dict[str, Any], **how: Any
    ) -> None:
        """Print a report about quarantined messages; fail if no such message was ever stored."""
        self.print_report(report, options, **how)
        if not report:
            explain_no_quarantined(selection)


class DeadLetterCommand(SelectionCommand):
    """A command about messages that failed, in the outbox and in the inbox."""

    ways: ClassVar[dict[str, str]] = {
        "--all": "all messages that failed",
        "--type": "messages of this stored type",
        "--key": "messages of this key",
        "--id": "the message with this id (a UUID)",
    }
    queues: ClassVar[tuple[str, ...]] = ("outbox", "inbox", "both")
    """The values of --queue."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --queue and --consumer to the options that select."""
        super().add_arguments(parser)
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

    def selection(self, options: dict[str, Any]) -> Selection:
        """Return what the options select, unless they contradict each other."""
        queue = None if options["queue"] == "both" else Queue(options["queue"])
        if options["consumer"] is not None and queue == Queue.OUTBOX:
            raise WrongUsage("a message of the outbox has no consumer; leave out --queue outbox")
        same = {name: options[name] for name in ("context", "type", "key", "consumer")}
        return Selection(queue=queue, id=_uuid(options["id"]), **same)

    def print_counts(
        self, report: ChangedRows, selection: Selection, options: dict[str, Any]
    ) -> None:
        """Print how many messages of each queue were changed; fail if none could be selected."""
        outbox = counted(report.outbox, "outbox message")
        inbox = counted(report.inbox, "delivery", "deliveries")
        self.print_report(f"{outbox} and {inbox}" if report.total else "", options)
        if not report.total:
            explain_nothing(selection)


def quarantine_selection(options: dict[str, Any], reason: str | None) -> QuarantineSelection:
    """Return the quarantined messages that the options select, for one reason or (None) any."""
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
        found = UUID(given)
    except ValueError as error:
        raise WrongUsage(f"--id {given!r} is not a UUID; message ids of the queues are") from error
    # The sender of another message may have written its id like this: that is another message.
    if str(found) != given:
        raise WrongUsage(
            f"--id {given!r} is not written as the ids of the queues are; write {str(found)!r}"
        )
    return found
