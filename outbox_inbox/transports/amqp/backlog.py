"""A look into the queues from outside: whether there is anything to be received."""

from collections.abc import Sequence
from time import monotonic, sleep
from typing import Final

from outbox_inbox.contexts import Context

from .connection import Connection, QuietChannel
from .link import Link
from .topology import Topology

_PAUSE: Final = 0.1  # seconds between two looks


class Glance:
    """Counts what waits in queues, over a connection that nobody else uses at the same time."""

    def __init__(self, link: Link, topology: Topology) -> None:
        self._link = link
        self._topology = topology
        self._channel: QuietChannel | None = None
        self._connection: Connection | None = None
        self._seen: dict[str, int] = {}

    def count(self, context: Context, seconds: float) -> int | None:
        """Return how many messages wait for a context, in one round trip; None: no such queue."""
        with self._link.within(seconds) as connection:
            if self._channel is None or self._connection is not connection:
                self._channel, self._connection = connection.open_channel(), connection
            found = self._topology.ready(self._channel, context)
        return None if found is None else found[0]

    def wait(self, owners: Sequence[Context], seconds: float, timeout: float) -> bool:
        """Look again and again until a queue has changed and is not empty; false: none has."""
        end = monotonic() + seconds
        while not any(self._has_changed(each, timeout) for each in owners):
            left = end - monotonic()
            if left <= 0:
                return False
            sleep(min(left, _PAUSE))
        return True

    def _has_changed(self, context: Context, timeout: float) -> bool:
        # What is there and stays there, since its partition is paused, is no news.
        found = self.count(context, timeout) or 0
        before = self._seen.get(context.label, 0)
        self._seen[context.label] = found
        return found not in (0, before)
