"""Checks of what is stored, and of the server: ``manage.py check --database default``, and before each ``migrate``."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from django.core.checks import CheckMessage
from django.db import connections

from outbox_inbox.checks.databases import check_options
from outbox_inbox.checks.databases import check_session as session_problems
from outbox_inbox.checks.messages import warning
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import SettingsError
from outbox_inbox.models import QueueLayout, table
from outbox_inbox.queues.layouts import declared_layout, difference_text, stored_layout
from outbox_inbox.queues.schema import schema_problems
from outbox_inbox.queues.statements.dialects import CLASSES

from .listeners import GoneConsumer, gone_consumers, missed_by
from .stats import MOST_COUNTED
from .stray_rows import has_tables, stray_rows


def check_stored(databases: Sequence[str] | None = None, **_: Any) -> Iterator[CheckMessage]:
    """W011: deliveries are stored for a consumer that the code does not have."""
    with suppress(SettingsError):  # reported by the other checks
        for context in contexts():
            using = context.database
            # Before the first migration there is no table to ask.
            if using in (databases or ()) and has_tables(using):
                for gone in gone_consumers([context]):
                    yield _warning(gone, missed_by(context, gone))


def check_session(databases: Sequence[str] | None = None, **_: Any) -> Iterator[CheckMessage]:
    """E021, E022: the server gives a connection what messages cannot be kept with."""
    with suppress(SettingsError):  # reported by the other checks
        used = {context.database for context in contexts()}
        for using in sorted(used.intersection(databases or ())):
            # What the settings show is reported already, with or without a server.
            if not any(check_options(using)):
                yield from session_problems(using)


def check_schema(databases: Sequence[str] | None = None, **_: Any) -> Iterator[CheckMessage]:
    """W012: the tables lack what the migrations make."""
    for using in databases or ():
        if lacking := schema_problems(connections[using]):
            yield warning(
                "W012",
                f"The tables of outbox_inbox in the database {using!r} lack {', '.join(lacking)}.",
                f"Run manage.py migrate --database {using}, which adds it. Until then nothing is "
                "recorded or moved there.",
            )


def check_layouts(databases: Sequence[str] | None = None, **_: Any) -> Iterator[CheckMessage]:
    """W013: what the settings say of the queues of a context is not in force."""
    with suppress(SettingsError):  # reported by the other checks
        for context in contexts():
            using = context.database
            if using not in (databases or ()) or not _is_migrated(using):
                continue
            wanted, found = declared_layout(context), stored_layout(context)
            if wanted != found:
                message = warning(
                    "W013",
                    f"{context.label}: {difference_text(wanted, found)}.",
                    "All processes go on with what is in force, so it may be put in force at any time: "
                    f"manage.py repartition --context {context.label}. When this deployment is taken "
                    "back, run it again with the old settings.",
                )
                message.obj = context.label
                yield message


def _is_migrated(using: str) -> bool:
    return table(QueueLayout) in connections[using].introspection.table_names()


def check_strays(databases: Sequence[str] | None = None, **_: Any) -> Iterator[CheckMessage]:
    """W014: a context has unfinished rows on a database that is not its own."""
    with suppress(SettingsError):  # reported by the other checks
        for using in [each for each in databases or () if _may_have_tables(each)]:
            for context in [each for each in contexts() if each.database != using]:
                if found := stray_rows(context, using):
                    yield _stray_warning(context, using, found)


def _may_have_tables(using: str) -> bool:
    return connections[using].vendor in CLASSES and has_tables(using)


def _stray_warning(context: Context, using: str, found: Mapping[str, int]) -> CheckMessage:
    told = ", ".join(f"{_number(count)} {title}" for title, count in found.items())
    message = warning(
        "W014",
        f"{context.label} is on the database {context.database!r}, and has rows on {using!r} that no "
        f"process moves or reads: {told}.",
        f"Set its `database` back to {using!r}, and move it with manage.py transfer_context "
        f"{context.label} --to {context.database}. If the rows are not needed any more, delete them "
        "there.",
    )
    message.obj = context.label
    return message


def _number(count: int) -> str:
    return f"more than {MOST_COUNTED:,}" if count > MOST_COUNTED else f"{count:,}"


def _warning(gone: GoneConsumer, missed: int) -> CheckMessage:
    since, more = "", "more than " * gone.minimum
    if missed:
        since = f" Since it was retired, it would have got {_number(missed)} messages."
    found = warning(
        "W011",
        f"{gone.context} has {more}{gone.unfinished:,} unfinished deliveries of {gone.consumer!r}, which the "
        f"code does not have: they are never handled.{since}",
        "If it was renamed or put together with others, run manage.py rename_consumer "
        f"--context {gone.context} {gone.consumer} NEW. If it was removed, discard them: manage.py "
        f"discard_messages --context {gone.context} --consumer {gone.consumer} --unfinished "
        '--reason "removed". In a deployment it may be one of the newer code.',
    )
    found.obj = gone.context
    return found
