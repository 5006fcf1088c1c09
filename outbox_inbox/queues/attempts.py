"""What becomes of a failed attempt: another after a back-off, or a dead letter; alike in all queues."""

import re
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from django.db import Error as DatabaseError
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf import settings
from outbox_inbox.exceptions import OutboxInboxError, PermanentError
from outbox_inbox.signals.escaping import visible, visible_lines

from . import statements

_MAX_ERROR = 1_000
_MYSQL_VALUE = re.compile(r"(Duplicate entry|value:) '.*' (for (?:key|column))", re.DOTALL)
_RAISED_BY = "raised by the function "
_MAX_TRACEBACK = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a failed attempt leads to."""

    dead: bool
    """No further attempt."""
    attempts: int
    """How many have failed by now."""
    seconds: float
    """The back-off before the next one."""
    error: str
    """One line: the exception's type and text."""

    def store(
        self, connection: BaseDatabaseWrapper, model: type[models.Model], row: int, *, holds: bool
    ) -> bool:
        """Write it to a row that is not finished, in the caller's transaction; false: it was.

        ``holds``: the followers of its key wait for it.
        """
        seconds, attempts = None if self.dead else self.seconds, self.attempts
        changed = statements.mark_failed(
            connection,
            model,
            row,
            attempts=attempts,
            holds=holds,
            error=self.error,
            seconds=seconds,
        )
        return changed > 0


MOST_CRASHES = 3
"""Counted crashes in one message after which it backs off, so that its worker can do other work."""


def crash_error() -> OutboxInboxError:
    """Return the error of a message in whose attempt the worker has ended (rule O9)."""
    return OutboxInboxError("the worker ended without warning while it had this message")


def judge_attempt(error: BaseException, attempts: int, max_attempts: int | None = None) -> Verdict:
    """Decide on a failed attempt; a `PermanentError` is final.

    Arguments:
        attempts: failed attempts including this one.
        max_attempts: of the consumer; default MAX_ATTEMPTS.
    """
    most = settings().max_attempts if max_attempts is None else max_attempts
    return Verdict(
        dead=isinstance(error, PermanentError) or attempts >= most,
        attempts=attempts,
        seconds=settings().backoff.delay(max(attempts, 1)).total_seconds(),
        error=error_line(error),
    )


def name_function(error: Exception, function: str) -> None:
    """Note in an exception which function of a consumer raised it; `error_line` ends with it."""
    others = [note for note in _notes(error) if not note.startswith(_RAISED_BY)]
    with suppress(Exception):  # an exception that lets nothing be set: its traceback says it, too
        error.__notes__ = [*others, f"{_RAISED_BY}{function}"]


def error_line(error: BaseException) -> str:
    """Return an exception as one visible line that every database can store.

    What a database says is shown without the values of the row, which its traceback has: the line
    goes into the log.
    """
    said = _without_values(error) if isinstance(error, DatabaseError) else str(error)
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    named = "".join(f" ({note})" for note in _notes(error) if note.startswith(_RAISED_BY))
    return line_of(text, _MAX_ERROR - len(named)) + named


def line_of(text: str, most: int = _MAX_ERROR) -> str:
    """Return a text about an error on one visible line of at most ``most`` characters.

    An error often quotes the payload that caused it, and that may hold what PostgreSQL refuses. The
    failure could not be stored then, and the message would fail for ever without an attempt.
    """
    # Cut before the words are joined: the text may have megabytes.
    return cut(visible(" ".join(text[: 4 * most].split()), None), most)


def _notes(error: BaseException) -> Sequence[str]:
    return getattr(error, "__notes__", ())


def traceback_text(error: BaseException) -> str:
    """Return the traceback of an exception; of a very long one the end, where the error was raised."""
    text = "".join(traceback.format_exception(error))
    return cut(visible_lines(text[-_MAX_TRACEBACK:]), _MAX_TRACEBACK)


def _without_values(error: DatabaseError) -> str:
    """Return the text of a database without values: PostgreSQL has them on the lines behind the first."""
    first = str(error).partition("\n")[0]
    return _MYSQL_VALUE.sub(r"\1 (not shown) \2", first)


def cut(text: str, limit: int) -> str:
    """Return a text as at most ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
