"""Turn errors of commands into one line and an exit code.

An operator and a monitoring script read the line and the code. A traceback would bury the way out.

Everything that a command prints passes through here, and is made visible: a key or an error from
outside must not drive the terminal. What is printed of each text is bounded where its line is made.
"""

from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from outbox_inbox.exceptions import NotAContext, OutboxInboxError, UnknownName
from outbox_inbox.signals.escaping import json_text, visible, visible_lines

from .arguments import add_shared, refuse_repetition
from .output import encodable

_MOST_OF_ERROR = 10_000  # characters: a setting may have many mistakes, each a line


class WrongUsage(CommandError):
    """The options contradict each other, or name what does not exist: exit code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(message, returncode=2)


class ProblemFound(CommandError):
    """The command did its work, and found a problem: exit code 3."""

    def __init__(self, message: str) -> None:
        super().__init__(message, returncode=3)


class QueueCommand(BaseCommand):
    """A command about queues. Subclasses implement `work`.

    Exit codes: 0 done, 1 error, 2 wrong usage, 3 a problem was found. What they mean to a script is
    in the manual (docs/operating.md).
    """

    shared_options: ClassVar[tuple[str, ...]] = ()
    """Those of the options in `arguments` that the command has."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the shared options; each option of a command, except a list, is taken once."""
        refuse_repetition(parser)
        add_shared(parser, *self.shared_options)

    def handle(self, **options: Any) -> None:
        """Do the work, and turn errors that explain themselves into a line and an exit code."""
        is_json = options.get("format") == "json"
        self.stdout = encodable(self.stdout, json=is_json)
        self.stderr = encodable(self.stderr)
        try:
            self.work(options)
        except CommandError as error:
            error.args = (visible_lines(error, _MOST_OF_ERROR),)
            raise
        except (NotAContext, UnknownName) as error:
            raise WrongUsage(visible_lines(error, _MOST_OF_ERROR)) from error
        except OutboxInboxError as error:
            raise CommandError(visible_lines(error, _MOST_OF_ERROR)) from error
        except DatabaseError as error:
            raise CommandError(_database_error_text(error)) from error

    def work(self, options: dict[str, Any]) -> None:
        """Do what the command is for."""
        raise NotImplementedError

    def print_summary(self, text: str, options: dict[str, Any], *, good: bool = True) -> None:
        """Print a line of the result, except with ``--verbosity 0``."""
        if options["verbosity"] > 0:
            style = self.style.SUCCESS if good else self.style.WARNING
            self.stdout.write(style(visible(text, None)))

    def print_note(self, text: str, options: dict[str, Any]) -> None:
        """Print a line beside the result, on standard error, except with ``--verbosity 0``."""
        if options["verbosity"] > 0:
            self.stderr.write(visible(text, None), self.style.NOTICE)

    def print_result(
        self, document: object, lines: Iterable[str], options: dict[str, Any], *, good: bool = True
    ) -> None:
        """Print a result as `print_document` does, its lines as summaries."""
        style = self.style.SUCCESS if good else self.style.WARNING
        self.print_document(document, lines if options["verbosity"] > 0 else (), options, style)

    def print_document(
        self,
        document: object,
        lines: Iterable[str],
        options: dict[str, Any],
        style: Callable[[str], str] = str,
    ) -> None:
        """Print one JSON document and nothing else, or lines, as ``--format`` says."""
        if options["format"] == "json":
            self.stdout.write(json_text(document, indent=2, default=datetime.isoformat))
            return
        for line in lines:
            self.stdout.write(style(visible(line, None)))


def _database_error_text(error: DatabaseError) -> str:
    text = visible(" ".join(str(error).split()), _MOST_OF_ERROR)
    missing = "no such table" in text or "does not exist" in text
    hint = "; has manage.py migrate been run?" if missing else ""
    return f"the database refused ({type(error).__name__}): {text}{hint}"
