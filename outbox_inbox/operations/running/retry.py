"""A call that is repeated for ever, and that backs off after a failure instead of ending the process."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Generic, TypeVar

from django.db import Error as DatabaseError
from django.db import connections

from outbox_inbox.conf import Backoff
from outbox_inbox.queues.blame import close_refusing
from outbox_inbox.queues.outages import Outage
from outbox_inbox.signals.logging import get_logger

logger = get_logger(__package__)

T = TypeVar("T")

_PAUSES = Backoff(first=timedelta(seconds=1), maximum=timedelta(seconds=30))


class RetriedCall(Generic[T]):
    """Calls a function unless it failed a moment ago; what it raises is logged.

    Without it one context that fails would end the process, and all the others with it.

    Arguments:
        action: what the function does, such as "relay shop".
        function: what is called.
    """

    def __init__(self, action: str, function: Callable[..., T]) -> None:
        self._function = function
        self._outage = Outage(action, logger, _PAUSES, level=logging.ERROR)

    def __call__(self, *arguments: Any, **options: Any) -> T | None:
        """Return the result; None: it failed, or its pause is not over."""
        if not self._outage.due():
            return None
        try:
            result = self._function(*arguments, **options)
        except Exception as error:  # noqa: BLE001  logged, and tried again
            self._outage.note_failure(error)
            if isinstance(error, DatabaseError):
                _close_connections(error)
            return None
        self._outage.note_success()
        return result


def _close_connections(error: DatabaseError) -> None:
    """Close what refuses everything: a session that outlives a failover is read-only for ever."""
    for connection in connections.all(initialized_only=True):
        close_refusing(connection, error)
