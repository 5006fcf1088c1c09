"""What becomes of nudges that could not be sent: they are counted, and for a while not tried."""

import logging
import time

logger = logging.getLogger(__package__)

MUTE = 5.0
"""Seconds without nudges after one that failed, so that only one in many waits for the failure."""


class Failures:
    """The failures of one way to wake somebody up, in this process.

    Attributes:
        count: how many nudges were not sent.
    """

    def __init__(self) -> None:
        self.count = 0
        self._muted_until = 0.0

    def muted(self, nudges: int = 1) -> bool:
        """Tell whether to leave it alone for now; nudges that are not sent for that are counted."""
        if time.monotonic() >= self._muted_until:
            return False
        self.count += nudges
        return True

    def note(self, error: Exception, what: str, nudges: int = 1) -> None:
        """Count nudges that failed and tell it in one line; nothing is lost by it.

        Arguments:
            what: the work that no worker was woken up to, such as "relay shop".
        """
        self.count += nudges
        self._muted_until = time.monotonic() + MUTE
        logger.warning(
            "no worker was woken up to %s: %s: %s (no further try for %d s; "
            "the work is safe, and is found by the next look)",
            what,
            type(error).__name__,
            " ".join(str(error).split()),
            MUTE,
        )

    def forget(self) -> None:
        """Begin anew."""
        self.count, self._muted_until = 0, 0.0
