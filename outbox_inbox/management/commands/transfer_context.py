"""``manage.py transfer_context``."""

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from outbox_inbox.contexts import get_context
from outbox_inbox.management.base import (
    QueueCommand,
    SomethingIsWrong,
    add_format,
    counted,
)
from outbox_inbox.management.progress import Advance, shown_progress
from outbox_inbox.operations import transfer
from outbox_inbox.operations.transfer import TransferReport


class Command(QueueCommand):
    """Transfer a living context to another database."""

    help = (
        "Transfer a context to another database, with its tables, its streams and its queues, while "
        "it goes on. Processes with the old settings are refused as soon as the old database is "
        "closed. May be stopped at any moment and called again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the context, the databases and what is to be done."""
        parser.add_argument("label", metavar="CONTEXT", help="the context to be transferred")
        parser.add_argument("--to", required=True, metavar="ALIAS", help="its new database")
        parser.add_argument(
            "--from",
            dest="old",
            metavar="ALIAS",
            help="its old database; default: where the settings say, or its ContextConfig",
        )
        step = parser.add_mutually_exclusive_group()
        step.add_argument("--dry-run", action="store_true", help="change nothing, and count")
        step.add_argument("--hold", action="store_true", help="stop before the new side is opened")
        step.add_argument(
            "--verify", action="store_true", help="compare both sides, and change nothing"
        )
        step.add_argument(
            "--abort", action="store_true", help="abort the transfer, unless the new side is open"
        )
        step.add_argument(
            "--clean", action="store_true", help="afterwards: delete what is left on the old side"
        )
        add_format(parser)

    def work(self, options: dict[str, Any]) -> None:
        """Do what is asked for, and say how far it is."""
        label, to, old = options["label"], options["to"], options["old"]
        get_context(label)
        if options["abort"]:
            self._abort(transfer.abort_transfer(label, to, old=old), options)
        elif options["clean"]:
            count = transfer.clean_old_side(label, to, old=old, show=self._show(options))
            self._tell({"context": label, "deleted": count}, [_deleted(label, count)], options)
        elif options["dry_run"]:
            found = transfer.plan_transfer(label, to, old=old)
            self._tell(_document(found, dry_run=True), _planned(found), options)
        elif options["verify"]:
            self._verify(
                transfer.verify_transfer(label, to, old=old, show=self._show(options)), options
            )
        else:
            show = self._show(options)
            found = transfer.transfer(label, to, old=old, hold=options["hold"], show=show)
            self._tell(_document(found), _transferred(found), options)

    def _show(self, options: dict[str, Any]) -> transfer.ShowPhase:
        def show(title: str, total: int | None) -> AbstractContextManager[Advance]:
            return shown_progress(title, total, self.stderr, options)

        return show

    def _abort(self, was_there: bool, options: dict[str, Any]) -> None:  # noqa: FBT001 - a result
        label, to = options["label"], options["to"]
        text = (
            f"Aborted: {label} lives where it was, and {to} has no rows of it."
            if was_there
            else f"Nothing to abort: no transfer of {label} to {to} is under way."
        )
        self._tell({"context": label, "aborted": was_there}, [text], options)

    def _verify(self, found: TransferReport, options: dict[str, Any]) -> None:
        self._tell(_document(found), _compared(found), options)
        if found.differences:
            raise SomethingIsWrong(
                f"{counted(found.differences, 'row')} differ between {found.old} and {found.new}"
            )

    def _tell(self, document: object, lines: Any, options: dict[str, Any]) -> None:
        if options["format"] == "json":
            self.write_json(document)
            return
        for line in lines:
            self.say(line, options)


def _document(found: TransferReport, *, dry_run: bool = False) -> dict[str, Any]:
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


def _planned(found: TransferReport) -> Iterator[str]:
    for each in found.tables:
        yield f"{each.table}: {counted(each.rows, 'row')}"
    total = sum(each.rows for each in found.tables)
    yield f"{counted(total, 'row')} of {found.context} would go from {found.old!r} to {found.new!r}."


def _compared(found: TransferReport) -> Iterator[str]:
    for each in found.tables:
        what = f"{counted(each.differences, 'difference')}" if each.differences else "the same"
        yield f"{each.table}: {counted(each.rows, 'row')}, {what}, {each.checksum[:16]}"


def _transferred(found: TransferReport) -> Iterator[str]:
    yield from _compared(found)
    place = f'OUTBOX_INBOX["CONTEXTS"]["{found.context}"] = {{"database": "{found.new}"}}'
    if found.state != "open":
        yield (
            f"{found.context} is closed on {found.old!r} and on {found.new!r}, and the same on both. "
            "The same command without --hold opens the new side, --abort the old one."
        )
        return
    yield (
        f"{found.context} lives on the database {found.new!r} now. Deploy every process with {place} and a router "
        "that says the same; until then those with the old settings are refused, and lose nothing."
    )


def _deleted(label: str, count: int) -> str:
    return f"{counted(count, 'row')} of {label} deleted; the old database goes on to refuse it."
