"""How everything that fails backs off: a partition, a subscription, or what a process tries itself.

Without it an outage would be met by a tight loop. The pause grows with the failures in a row, its
end is noted where the next try looks for it, and the failure is reported once.
"""

import logging
from datetime import timedelta
from typing import Protocol

from django.db import Error as DatabaseError

from outbox_inbox.conf import Backoff, settings
from outbox_inbox.conf.clock import monotonic
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import Queue
from outbox_inbox.signals.escaping import visible

from . import announcements
from .attempts import error_line
from .blame import close_refusing
from .run import Lost, Run
from .statements.dialects.refusals import is_contention

RECONNECT = Backoff(first=timedelta(seconds=0.5), maximum=timedelta(seconds=30))
"""The pauses of what only waits for news: polling makes up for it meanwhile."""


class Failing(Protocol):
    """What backs off."""

    failures: int
    """How many tries have failed in a row, before this one."""

    def back_off(self, error: str, seconds: float) -> None:
        """Note one more failure, and that the next try is due in so many seconds."""


def back_off(
    failing: Failing, error: Exception, policy: Backoff | None = None, *, detail: str = ""
) -> timedelta:
    """Have something wait after one more failure, and return for how long.

    ``policy``: default: the setting BACKOFF; ``detail``: what to note behind the error.
    """
    delay = (policy or settings().backoff).delay(failing.failures + 1)
    if isinstance(error, TransportUnavailable) and error.longest is not None:
        delay = min(delay, error.longest)
    failing.back_off(error_line(error) + visible(detail, None), delay.total_seconds())
    return delay


def back_off_partition(run: Run, queue: Queue, error: Exception) -> None:
    """End a run because of an outage, which costs no message an attempt."""
    try:
        delay = back_off(run, error)
    except Lost:
        # An operator has paused the partition, or another worker has it. That worker will meet the
        # outage itself; here it must not take the place of the error that the caller has in hand.
        return
    announcements.partition_backed_off(run.context, queue, run.number, error, delay)


def back_off_database(run: Run, queue: Queue, error: DatabaseError) -> None:
    """End a run because the context's own database refused a statement of ours.

    Raises:
        django.db.Error: the same error. The connection is lost, or the statement has only waited for
            another transaction; or the database refuses to note the back-off as well.
    """
    if not run.connected() or is_contention(run.connection, error):
        raise error
    try:
        back_off_partition(run, queue, error)
    except DatabaseError:
        raise error from None
    finally:
        close_refusing(run.connection, error)


class Outage:
    """The failures in a row of one thing that this process does, which no table knows of.

    Arguments:
        action: what fails, as the log says it after "cannot", such as "relay shop".
        logger: gets an entry for each failure, and for the end of an outage.
        level: of the entries; with ERROR they have the traceback of what does not explain itself.
        meanwhile: what makes up for it until the next try.
    """

    def __init__(
        self,
        action: str,
        logger: logging.Logger,
        policy: Backoff,
        *,
        level: int = logging.WARNING,
        meanwhile: str = "",
    ) -> None:
        self.failures = 0
        self._action = action
        self._logger = logger
        self._policy = policy
        self._level = level
        self._meanwhile = f"; {meanwhile}" if meanwhile else ""
        self._retry_at = float("-inf")

    def due(self) -> bool:
        """Return whether the pause after the last failure is over."""
        return monotonic() >= self._retry_at

    def note_failure(self, error: Exception, detail: str = "") -> float:
        """Log a failure; return the seconds until the next try. ``detail`` ends the action."""
        seconds = back_off(self, error, self._policy).total_seconds()
        explained = self._level < logging.ERROR or isinstance(
            error, DatabaseError | TransportUnavailable
        )
        self._logger.log(
            self._level,
            "cannot %s: %s (next try in %.1f s%s)",
            self._action + detail,
            error_line(error),
            seconds,
            self._meanwhile,
            exc_info=None if explained else error,
        )
        return seconds

    def back_off(self, error: str, seconds: float) -> None:
        """See `Failing`."""
        self.failures += 1
        self._retry_at = monotonic() + seconds

    def note_success(self) -> None:
        """Log the end of an outage, if there was one."""
        if self.failures:
            self._logger.info("can %s again", self._action)
        self.reset()

    def reset(self) -> None:
        """Forget all failures."""
        self.failures, self._retry_at = 0, float("-inf")
