"""``manage.py transfer_context``."""

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from outbox_inbox.contexts import get_context
from outbox_inbox.management.arguments import add_dry_run, add_format
from outbox_inbox.management.base import ProblemFound, QueueCommand
from outbox_inbox.management.progress import Advance, progress_display
from outbox_inbox.management.wording import counted
from outbox_inbox.operations import transfer
from outbox_inbox.operations.transfer import Handover


class Command(QueueCommand):
    """Hand a running context over to another database."""

    help = (
        "Hand a context over to another database, with its tables, streams and queues, while the "
        "system keeps running. From the moment the old database is closed, it refuses processes "
        "with the old settings. The command may be stopped at any time and run again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the context, the databases, and the options for single steps."""
        parser.add_argument("label", metavar="CONTEXT", help="hand this context over")
        parser.add_argument("--to", required=True, metavar="ALIAS", help="move it to this database")
        parser.add_argument(
            "--from",
            dest="old",
            metavar="ALIAS",
            help="move it from this database; default: that of the settings, or of its ContextConfig",
        )
        step = parser.add_mutually_exclusive_group()
        add_dry_run(step)
        step.add_argument(
            "--hold", action="store_true", help="stop before the new database is opened"
        )
        step.add_argument(
            "--verify", action="store_true", help="compare both databases, and change nothing"
        )
        step.add_argument(
            "--abort",
            action="store_true",
            help="undo the hand-over, unless the new database is open",
        )
        step.add_argument(
            "--clean",
            action="store_true",
            help="delete the rows that remain on the old database, after the hand-over",
        )
        add_format(parser)

    def work(self, options: dict[str, Any]) -> None:
        """Do what the options ask for, and report."""
        label, to, old = options["label"], options["to"], options["old"]
        get_context(label)
        if options["abort"]:
            self._print_abort(options, aborted=transfer.abort(label, to, old=old))
        elif options["clean"]:
            count = transfer.clean(label, to, old=old, show=self._display(options))
            self._print_report(
                {"context": label, "deleted": count}, [_deletion_text(label, count)], options
            )
        elif options["dry_run"]:
            found = transfer.plan(label, to, old=old)
            self._print_report(_document(found, dry_run=True), _plan_lines(found), options)
        elif options["verify"]:
            self._print_verification(
                transfer.verify(label, to, old=old, show=self._display(options)), options
            )
        else:
            show = self._display(options)
            found = transfer.transfer(label, to, old=old, hold=options["hold"], show=show)
            self._print_report(_document(found), _result_lines(found), options)

    def _display(self, options: dict[str, Any]) -> transfer.Show:
        def show(title: str, total: int | None) -> AbstractContextManager[Advance]:
            return progress_display(title, total, self.stderr, options)

        return show

    def _print_abort(self, options: dict[str, Any], *, aborted: bool) -> None:
        label, to = options["label"], options["to"]
        text = (
            f"Aborted: {label} stays on its old database, and its rows on {to} are deleted."
            if aborted
            else f"Nothing to abort: no hand-over of {label} to {to} is in progress."
        )
        self._print_report({"context": label, "aborted": aborted}, [text], options)

    def _print_verification(self, found: Handover, options: dict[str, Any]) -> None:
        self._print_report(_document(found), _comparison_lines(found), options)
        if found.differences:
            raise ProblemFound(
                f"{counted(found.differences, 'difference')} between {found.old} and {found.new}"
            )

    def _print_report(self, document: object, lines: Any, options: dict[str, Any]) -> None:
        if options["format"] == "json":
            self.print_json(document)
            return
        for line in lines:
            self.print_summary(line, options)


def _document(found: Handover, *, dry_run: bool = False) -> dict[str, Any]:
    return {
        "context": found.context,
        "from": found.old,
        "to": found.new,
        "dry_run": dry_run,
        "state": found.state,
        "copied": found.copied,
        "changed": found.changed,
        "differences": found.differences,
        "tables": [asdict(each) for each in found.tables],
    }


def _plan_lines(found: Handover) -> Iterator[str]:
    for each in found.tables:
        yield f"{each.table}: {counted(each.rows, 'row')}"
    total = sum(each.rows for each in found.tables)
    yield f"{counted(total, 'row')} of {found.context} would go from {found.old!r} to {found.new!r}."


def _comparison_lines(found: Handover) -> Iterator[str]:
    for each in found.tables:
        what = counted(each.differences, "difference") if each.differences else "the same"
        yield f"{each.table}: {counted(each.rows, 'row')}, {what}, {each.checksum[:16]}"


def _result_lines(found: Handover) -> Iterator[str]:
    yield from _comparison_lines(found)
    setting = f'OUTBOX_INBOX["CONTEXTS"]["{found.context}"] = {{"database": "{found.new}"}}'
    if found.state != "open":
        yield (
            f"{found.context} is closed on {found.old!r} and on {found.new!r}, with the same rows. "
            "Run the same command without --hold to open the new database, or with --abort to open "
            "the old one."
        )
        return
    yield (
        f"{found.context} is now on the database {found.new!r}. Deploy every process with {setting} "
        "and a router that says the same. Until then, processes with the old settings are refused; "
        "they lose nothing."
    )


def _deletion_text(label: str, count: int) -> str:
    return f"Deleted {counted(count, 'row')} of {label}. The old database still refuses {label}."
