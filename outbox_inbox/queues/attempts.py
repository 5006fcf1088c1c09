"""What becomes of a failed attempt: another attempt after a back-off, or a dead letter.

It is one decision for messages of the outbox and for deliveries, so that both back off alike.
"""

import traceback
from dataclasses import dataclass

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf import settings
from outbox_inbox.exceptions import PermanentError

from . import statements

_MAX_ERROR = 1_000
_MAX_TRACEBACK = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a failed attempt leads to.

    Fields:
        dead: no further attempt.
        attempts: how many have failed by now.
        seconds: the back-off before the next one.
        error: one line, the exception's type and text.
    """

    dead: bool
    attempts: int
    seconds: float
    error: str

    def store(
        self,
        connection: BaseDatabaseWrapper,
        model: type[models.Model],
        row: int,
        *,
        holds: bool,
    ) -> bool:
        """Write it to the message or delivery, in the caller's transaction; false: that was final.

        ``holds``: the followers of its key wait for it.
        """
        if self.dead:
            changed = statements.mark_dead(
                connection, model, row, attempts=self.attempts, holds=holds, error=self.error
            )
        else:
            changed = statements.back_off_row(
                connection,
                model,
                row,
                attempts=self.attempts,
                holds=holds,
                error=self.error,
                seconds=self.seconds,
            )
        return changed > 0


def crash_error() -> PermanentError:
    """Return the error of a message that has killed its worker at each attempt (rule O9)."""
    return PermanentError("the worker ended without warning at each attempt")


def judge_attempt(error: BaseException, attempts: int, max_attempts: int | None = None) -> Verdict:
    """Decide on a failed attempt.

    Arguments:
        error: why it failed; a `PermanentError` is final.
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


def error_line(error: BaseException) -> str:
    """Return an exception as one line that every database can store."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return _storable(" ".join(text.split()), _MAX_ERROR)


def traceback_text(error: BaseException) -> str:
    """Return the traceback of an exception; of a very long one the end, where the error was raised."""
    text = "".join(traceback.format_exception(error))
    return _storable(text[-_MAX_TRACEBACK:], _MAX_TRACEBACK)


def _storable(text: str, limit: int) -> str:
    # An error often quotes the payload that caused it, and that may hold what PostgreSQL refuses. The
    # failure could not be stored then, and the message would fail for ever without an attempt.
    clean = text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
