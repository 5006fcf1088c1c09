"""``manage.py read_stream``."""

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
from outbox_inbox.management.arguments import from_zero, positive
from outbox_inbox.management.base import (
    QueueCommand,
    SomethingIsWrong,
    WrongUsage,
    add_format,
    counted,
)
from outbox_inbox.management.escaping import json_line, quoted, visible
from outbox_inbox.operations import StreamEntry, contexts_with_stream, read_entries, suggest_stream


class Command(QueueCommand):
    """Read a stream to people."""

    help = (
        "Show the events of a stream: version, time (UTC), name, fields, and what they belong to. "
        "Exit code 1 when there is no such stream, 3 when events in it cannot be read any more; "
        "these are shown as they are stored."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the name of the stream, --context, --after, --limit and --format."""
        parser.add_argument("stream", metavar="STREAM", help="its name, such as order-10248")
        parser.add_argument(
            "--context",
            metavar="LABEL",
            help="whose stream; only needed when several contexts have one of this name",
        )
        parser.add_argument(
            "--after",
            type=from_zero,
            default=0,
            metavar="VERSION",
            help="only what came after this version; default: 0, from the beginning",
        )
        parser.add_argument(
            "--limit", type=positive, metavar="N", help="so many events at most; default: all"
        )
        add_format(parser)

    def work(self, options: dict[str, Any]) -> None:
        """Find the stream, and show it."""
        stream, label = options["stream"], options["context"]
        if problems := streams.problems_of(stream, None):
            raise WrongUsage(problems[0])
        context = _owner([get_context(label)] if label else contexts(), stream)
        seen = read_entries(context, stream, after=options["after"], limit=options["limit"])
        show = self._document if options["format"] == "json" else self._text
        try:
            unreadable = show(context, stream, seen, options)
            self.stdout.flush()
        except BrokenPipeError:
            # Who reads it (head, a pager) has seen enough; nor shall Python flush into the pipe.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        if unreadable:
            raise SomethingIsWrong(
                f"{counted(unreadable, 'event')} of {quoted(stream)} cannot be read"
            )

    def _text(
        self, context: Context, stream: str, events: Iterator[StreamEntry], options: dict[str, Any]
    ) -> int:
        """Print lines that fit the terminal; return how many events could not be read."""
        version = streams.version(context, stream)
        width = shutil.get_terminal_size((100, 24)).columns
        shown = unreadable = 0
        for seen in events:
            style = self.style.ERROR if seen.problem else str
            for line in stream_lines.lines(seen, len(str(version)), width):
                self.stdout.write(style(line))
            shown += 1
            unreadable += seen.problem is not None
        self.say(
            f"{counted(shown, 'event')} of {visible(stream)} ({context.label}), "
            f"which is at version {version:,}.",
            options,
            good=not unreadable,
        )
        return unreadable

    def _document(
        self, context: Context, stream: str, events: Iterator[StreamEntry], options: dict[str, Any]
    ) -> int:
        """Print one JSON document, an event a line; return how many could not be read."""
        about = json_line(
            {
                "context": context.label,
                "stream": stream,
                "stream_version": streams.version(context, stream),
            }
        )
        self.stdout.write(about[:-1] + ', "events": [', ending="")
        unreadable, comma = 0, ""
        for seen in events:
            self.stdout.write(f"{comma}\n  {stream_lines.document(seen)}", ending="")
            unreadable += seen.problem is not None
            comma = ","
        self.stdout.write(f'\n], "unreadable": {unreadable}}}')
        return unreadable


def _owner(owners: Sequence[Context], stream: str) -> Context:
    """Return the context that has the stream.

    Raises:
        CommandError: none has.
        WrongUsage: several have.
    """
    found = contexts_with_stream(owners, stream)
    if len(found) > 1:
        labels = ", ".join(each.label for each in found)
        raise WrongUsage(
            f"several contexts have a stream {quoted(stream)}: {labels}. Choose one with --context"
        )
    if found:
        return found[0]
    who = owners[0].label if len(owners) == 1 else "no context"
    hint = suggest_stream(owners, stream)
    has = "has no stream" if len(owners) == 1 else "has a stream"
    raise CommandError(f"{who} {has} {quoted(stream)}{hint}")
