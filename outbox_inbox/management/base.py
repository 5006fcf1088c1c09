"""What the commands have in common: contexts as arguments, exit codes, errors in one line."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from outbox_inbox.contexts import Context, contexts, get_context
from outbox_inbox.exceptions import NotAContext, OutboxInboxError


class WrongUsage(CommandError):
    """The command was called in a way that makes no sense: exit code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(message, returncode=2)


class SomethingIsWrong(CommandError):
    """The command looked, and what it found is not as it should be: exit code 3."""

    def __init__(self, message: str) -> None:
        super().__init__(message, returncode=3)


class QueueCommand(BaseCommand):
    """A command about queues. Subclasses implement `work`; what it raises is told in one line.

    Exit codes: 0 done, 1 error, 2 wrong usage, 3 looked and something is wrong.
    """

    def handle(self, **options: Any) -> None:
        """Do the work, and turn errors that explain themselves into a line and an exit code."""
        try:
            self.work(options)
        except CommandError:
            raise
        except NotAContext as error:
            raise WrongUsage(str(error)) from error
        except OutboxInboxError as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            raise CommandError(_told(error)) from error

    def work(self, options: dict[str, Any]) -> None:
        """Do what the command is for."""
        raise NotImplementedError

    def say(self, text: str, options: dict[str, Any], *, good: bool = True) -> None:
        """Print the line that sums up, unless nothing is to be said (``--verbosity 0``)."""
        if options["verbosity"] > 0:
            self.stdout.write((self.style.SUCCESS if good else self.style.WARNING)(text))

    def note(self, text: str, options: dict[str, Any]) -> None:
        """Print something beside the result, on standard error."""
        if options["verbosity"] > 0:
            self.stderr.write(text, self.style.NOTICE)

    def write_json(self, document: object) -> None:
        """Print one JSON document, and nothing else."""
        self.stdout.write(json.dumps(document, indent=2, ensure_ascii=False))


def _told(error: DatabaseError) -> str:
    text = " ".join(str(error).split())
    missing = "no such table" in text or "does not exist" in text
    hint = "; has manage.py migrate been run?" if missing else ""
    return f"the database refused ({type(error).__name__}): {text}{hint}"


def add_contexts(parser: ArgumentParser) -> None:
    """Let the user choose contexts; none chosen means all."""
    parser.add_argument(
        "--context",
        action="append",
        metavar="LABEL",
        help="a context; may be given several times; default: all",
    )


def chosen_contexts(options: dict[str, Any]) -> tuple[Context, ...]:
    """Return the contexts the user chose, each once.

    Raises:
        NotAContext: one does not exist.
    """
    given: list[str] | str | None = options["context"]
    labels = [given] if isinstance(given, str) else given
    return contexts() if not labels else tuple(map(get_context, dict.fromkeys(labels)))


def add_format(parser: ArgumentParser) -> None:
    """Let the user choose between text and JSON."""
    parser.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="json prints one document and nothing else; default: text",
    )


def add_dry_run(parser: ArgumentParser) -> None:
    """Let the user ask what would be done."""
    parser.add_argument("--dry-run", action="store_true", help="change nothing, and count")


def counted(number: int, one: str, several: str | None = None) -> str:
    """Return a number with its noun: "1 message", "1,203 messages"."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"
