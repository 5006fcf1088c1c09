"""``manage.py transfer_context``: transfer a running context to another database."""

from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

from outbox_inbox.contexts import get_context
from outbox_inbox.management.arguments import add_shared
from outbox_inbox.management.base import ProblemFound, QueueCommand
from outbox_inbox.management.progress import progress_display
from outbox_inbox.management.wording import counted
from outbox_inbox.operations import transfer
from outbox_inbox.operations.transfer import TransferReport

_STEPS = {
    "--hold": "stop before the new database is opened",
    "--verify": "compare both databases, and change nothing",
    "--abort": "abort the transfer, unless the new database is open",
    "--clean": "delete the rows that remain on the old database, after the transfer",
}


class Command(QueueCommand):
    shared_options = ("--format",)
    help = (
        "Transfer a context to another database, with its tables, streams and queues, while the "
        "system keeps running. From the moment the old database is closed, it refuses processes "
        "with the old settings. The command may be stopped at any time and run again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("label", metavar="CONTEXT", help="transfer this context")
        parser.add_argument("--to", required=True, metavar="ALIAS", help="move it to this database")
        parser.add_argument(
            "--from",
            dest="old",
            metavar="ALIAS",
            help="move it from this database; default: that of the settings, or of its ContextConfig",
        )
        step = parser.add_mutually_exclusive_group()
        add_shared(step, "--dry-run")
        for option, text in _STEPS.items():
            step.add_argument(option, action="store_true", help=text)

    def work(self, options: dict[str, Any]) -> None:
        label, to, old = options["label"], options["to"], options["old"]
        get_context(label)
        show = partial(progress_display, stderr=self.stderr, options=options)
        if options["abort"]:
            aborted = transfer.abort_transfer(label, to, old=old)
            document = {"context": label, "aborted": aborted}
            self.print_result(document, [_abort_text(label, to, aborted=aborted)], options)
        elif options["clean"]:
            count = transfer.clean_old_side(label, to, old=old, show=show)
            text = f"Deleted {counted(count, 'row')} of {label}. "
            text += f"The old database still refuses {label}."
            self.print_result({"context": label, "deleted": count}, [text], options)
        elif options["dry_run"]:
            found = transfer.plan_transfer(label, to, old=old)
            self.print_result(_document(found, dry_run=True), _plan_lines(found), options)
        elif options["verify"]:
            found = transfer.verify_transfer(label, to, old=old, show=show)
            self.print_result(_document(found), _comparison_lines(found), options)
            if found.differences:
                differences = counted(found.differences, "difference")
                raise ProblemFound(f"{differences} between {found.old} and {found.new}")
        else:
            found = transfer.transfer(label, to, old=old, hold=options["hold"], show=show)
            self.print_result(_document(found), _result_lines(found), options)


def _abort_text(label: str, to: str, *, aborted: bool) -> str:
    if aborted:
        return f"Aborted: {label} stays on its old database, and its rows on {to} are deleted."
    return f"Nothing to abort: no transfer of {label} to {to} is in progress."


def _document(found: TransferReport, *, dry_run: bool = False) -> dict[str, Any]:
    return {
        "context": found.context,
        "from": found.old,
        "to": found.new,
        "dry_run": dry_run,
        **{name: getattr(found, name) for name in ("state", "copied", "changed", "differences")},
        "tables": [asdict(each) for each in found.tables],
    }


def _plan_lines(found: TransferReport) -> Iterator[str]:
    for each in found.tables:
        yield f"{each.table}: {counted(each.rows, 'row')}"
    total = sum(each.rows for each in found.tables)
    yield f"{counted(total, 'row')} of {found.context} would go from {found.old!r} to {found.new!r}."


def _comparison_lines(found: TransferReport) -> Iterator[str]:
    for each in found.tables:
        what = counted(each.differences, "difference") if each.differences else "the same"
        yield f"{each.table}: {counted(each.rows, 'row')}, {what}, {each.checksum[:16]}"


def _result_lines(found: TransferReport) -> Iterator[str]:
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
