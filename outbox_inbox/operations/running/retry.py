"""One thing that is tried again and again, and left alone for a growing while after a failure."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Generic, TypeVar

from django.db import Error as DatabaseError

from outbox_inbox.conf.backoff import Backoff
from outbox_inbox.exceptions import TransportUnavailable

logger = logging.getLogger(__package__)

T = TypeVar("T")

_PAUSES = Backoff(first=timedelta(seconds=1), maximum=timedelta(seconds=30))


class Trial(Generic[T]):
    """Calls a function unless it failed a moment ago; what it raises is logged.

    Arguments:
        name: what it does, such as "relay shop".
        function: what is called, each time with the same arguments.
    """

    def __init__(self, name: str, function: Callable[..., T]) -> None:
        self._name = name
        self._function = function
        self._failures = 0
        self._not_before = float("-inf")

    def __call__(self, *arguments: Any, **options: Any) -> T | None:
        """Return the result; None: it failed, or is still to be left alone."""
        if time.monotonic() < self._not_before:
            return None
        try:
            result = self._function(*arguments, **options)
        except Exception as error:  # noqa: BLE001  logged, and tried again
            self._note(error)
            return None
        if self._failures:
            logger.info("%s works again", self._name)
            self._failures = 0
        return result

    def _note(self, error: Exception) -> None:
        self._failures += 1
        pause = _PAUSES.delay(self._failures).total_seconds()
        self._not_before = time.monotonic() + pause
        # An outage explains itself; anything else needs its traceback to be found.
        outage = isinstance(error, DatabaseError | TransportUnavailable)
        logger.error(
            "cannot %s: %s: %s (next try in %.1f s)",
            self._name,
            type(error).__name__,
            str(error).strip(),
            pause,
            exc_info=None if outage else error,
        )
