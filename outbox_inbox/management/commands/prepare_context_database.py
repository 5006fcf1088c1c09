"""``manage.py prepare_context_database``: make a context's database complete for its own process."""

from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from outbox_inbox.management.arguments import add_shared
from outbox_inbox.management.base import QueueCommand
from outbox_inbox.management.wording import counted
from outbox_inbox.operations.preparation import AppRecords, Preparation, prepare_database


class Command(QueueCommand):
    help = (
        "Make the database of a context complete for a process of its own. In the monolith the tables "
        "of other apps were kept away from it, but their migrations were recorded. The command forgets "
        "these records, applies the migrations, and runs migrate. Run it with the settings of the "
        "context's own process; other processes may work for the context meanwhile."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_shared(parser, "--dry-run", "--format")
        parser.add_argument(
            "labels",
            nargs="+",
            metavar="CONTEXT",
            help="a context of this process; name all of them",
        )
        parser.add_argument(
            "--keep",
            action="append",
            default=[],
            metavar="APP",
            help="leave the records of this app as they are; repeat the option for several",
        )
        parser.add_argument(
            "--forget",
            action="append",
            default=[],
            metavar="APP",
            help="apply the migrations of this app, which make no tables; repeat it for several",
        )

    def work(self, options: dict[str, Any]) -> None:
        dry_run = options["dry_run"]
        found = prepare_database(
            list(dict.fromkeys(options["labels"])),
            keep=options["keep"],
            forget=options["forget"],
            dry_run=dry_run,
        )
        document = {**asdict(found), "dry_run": dry_run}
        self.print_result(document, _lines(found, dry_run=dry_run), options)


def _lines(found: Preparation, *, dry_run: bool) -> Iterator[str]:
    contexts = ", ".join(found.contexts)
    if not found.forgotten and not found.applied:
        yield f"Nothing to prepare: the database {found.database!r} is complete for {contexts}."
        return
    for each in found.forgotten:
        yield _app_line(each, dry_run=dry_run)
    count = counted(len(found.applied), "migration")
    if dry_run:
        yield f"{count} would be applied in the database {found.database!r}."
        if not found.one_transaction:
            yield "An error would not undo what was applied before it; a second call would continue."
        return
    yield f"Applied {count}: the database {found.database!r} is prepared for {contexts}."


def _app_line(app: AppRecords, *, dry_run: bool) -> str:
    count = counted(len(app.migrations), "recorded migration")
    verb = "would be forgotten" if dry_run else "forgotten"
    if app.missing:
        why = f"without {', '.join(app.missing[:3])}{' and others' * (len(app.missing) > 3)}"
    else:
        why = "without tables" if app.installed else "not installed here"
    return f"{app.label}: {count} {verb}; {why}."
