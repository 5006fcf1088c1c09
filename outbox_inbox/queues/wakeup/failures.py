"""Nudges that cannot be sent: they are counted, and then none is tried for a while.

Without the pause each transaction would wait for a broker that does not answer.
"""

from datetime import timedelta
from typing import Final

from outbox_inbox.conf import Backoff
from outbox_inbox.queues.outages import Outage
from outbox_inbox.signals.logging import get_logger

logger = get_logger(__package__)

MUTE: Final = timedelta(seconds=5)
"""How long nothing is sent after a failure, so that only one nudge in many waits for it."""


class Failures:
    """The failures of one way to wake up workers, in this process; ``count``: of nudges not sent."""

    def __init__(self) -> None:
        self.count = 0
        pause = Backoff(first=MUTE, factor=1, maximum=MUTE, jitter=0)
        meanwhile = "the work is safe, and is found by polling"
        self._outage = Outage("wake up a worker to ", logger, pause, meanwhile=meanwhile)

    def muted(self, nudges: int = 1) -> bool:
        """Return whether to send nothing for now; the nudges that are dropped for that are counted."""
        if self._outage.due():
            return False
        self.count += nudges
        return True

    def note_failure(self, error: Exception, what: str, nudges: int = 1) -> None:
        """Count nudges that failed and log the work that they were for, such as "relay shop"."""
        self.count += nudges
        self._outage.note_failure(error, what)

    def reset(self) -> None:
        """Forget all failures."""
        self.count = 0
        self._outage.reset()
