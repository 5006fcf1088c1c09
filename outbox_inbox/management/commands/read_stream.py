"""``manage.py read_stream``: show a stream."""

import os
import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.management import CommandError

from outbox_inbox import streams
from outbox_inbox.contexts import Context, contexts, get_context
from outbox_inbox.management import stream_lines
from outbox_inbox.management.arguments import whole_number
from outbox_inbox.management.base import ProblemFound, QueueCommand, WrongUsage
from outbox_inbox.management.wording import counted
from outbox_inbox.operations import StreamEntry, contexts_with_stream, read_entries, suggest_stream
from outbox_inbox.signals.escaping import json_text, quoted, visible


class Command(QueueCommand):
    shared_options = ("--format",)
    help = (
        "Show the events of a stream: version, time (UTC), type, fields, key and ids. Exit with 1 if "
        "the stream does not exist, and with 3 if some events cannot be read; these are "
        "shown as stored."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "stream", metavar="STREAM", help="show this stream, such as order-10248"
        )
        parser.add_argument(
            "--context",
            metavar="LABEL",
            help="look in this context; needed only if several have a stream of this name",
        )
        parser.add_argument(
            "--after",
            type=whole_number(0),
            default=0,
            metavar="VERSION",
            help="show only events after this version; default: 0, all events",
        )
        parser.add_argument(
            "--limit", type=whole_number(1), metavar="N", help="show at most N events; default: all"
        )

    def work(self, options: dict[str, Any]) -> None:
        stream, label = options["stream"], options["context"]
        if problems := streams.problems_of(stream, None):
            raise WrongUsage(problems[0])
        context = _find_context([get_context(label)] if label else contexts(), stream)
        entries = read_entries(context, stream, after=options["after"], limit=options["limit"])
        show = self._print_document if options["format"] == "json" else self._print_lines
        try:
            unreadable = show(context, stream, entries, options)
            self.stdout.flush()
        except BrokenPipeError:
            # The reader (head, a pager) has closed the pipe. Python must not flush into it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        if unreadable:
            raise ProblemFound(f"{counted(unreadable, 'event')} of {quoted(stream)} cannot be read")

    def _print_lines(
        self, context: Context, stream: str, entries: Iterator[StreamEntry], options: dict[str, Any]
    ) -> int:
        """Print lines that fit the terminal; return how many events could not be read."""
        version = streams.version(context, stream)
        width = shutil.get_terminal_size((100, 24)).columns
        shown = unreadable = 0
        for entry in entries:
            style = self.style.ERROR if entry.problem else str
            for line in stream_lines.event_lines(entry, len(str(version)), width):
                self.stdout.write(style(line))
            shown += 1
            unreadable += entry.problem is not None
        self.print_summary(
            f"{counted(shown, 'event')} of {visible(stream)} ({context.label}), "
            f"now at version {version:,}.",
            options,
            good=not unreadable,
        )
        return unreadable

    def _print_document(
        self, context: Context, stream: str, entries: Iterator[StreamEntry], options: dict[str, Any]
    ) -> int:
        """Print one JSON document, an event a line; return how many could not be read."""
        version = streams.version(context, stream)
        about = json_text({"context": context.label, "stream": stream, "stream_version": version})
        self.stdout.write(about[:-1] + ', "events": [', ending="")
        unreadable, comma = 0, ""
        for entry in entries:
            self.stdout.write(f"{comma}\n  {stream_lines.event_json(entry)}", ending="")
            unreadable += entry.problem is not None
            comma = ","
        self.stdout.write(f'\n], "unreadable": {unreadable}}}')
        return unreadable


def _find_context(chosen: Sequence[Context], stream: str) -> Context:
    found = contexts_with_stream(chosen, stream)
    if len(found) > 1:
        labels = ", ".join(each.label for each in found)
        raise WrongUsage(
            f"several contexts have a stream {quoted(stream)}: {labels}. Choose one with --context"
        )
    if found:
        return found[0]
    hint = suggest_stream(chosen, stream)
    has = f"{chosen[0].label} has no stream" if len(chosen) == 1 else "no context has a stream"
    raise CommandError(f"{has} {quoted(stream)}{hint}")
