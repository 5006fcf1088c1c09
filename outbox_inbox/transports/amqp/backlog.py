"""How many messages wait in the queues, asked without receiving any of them."""

from collections.abc import Sequence
from time import monotonic, sleep
from typing import Final

from outbox_inbox.contexts import Context

from .connection import Connection, QuietChannel
from .reconnector import Reconnector
from .topology import Topology

_PAUSE: Final = 0.1  # seconds between two polls


class Backlog:
    """Counts the messages in queues, over a connection that no other thread uses at the same time."""

    def __init__(self, reconnector: Reconnector, topology: Topology) -> None:
        self._reconnector = reconnector
        self._topology = topology
        self._channel: QuietChannel | None = None
        self._connection: Connection | None = None
        self._counts: dict[str, int] = {}

    def count_messages(self, context: Context) -> int | None:
        """Return how many messages wait for a context, in one round trip; None: no such queue."""
        with self._reconnector.connection() as connection:
            if self._channel is None or self._connection is not connection:
                self._channel, self._connection = connection.open_channel(), connection
            found = self._topology.queue_counts(self._channel, context)
        return None if found is None else found[0]

    def wait_for_change(self, contexts: Sequence[Context], seconds: float) -> bool:
        """Poll until a queue has changed and is not empty; False if none has in time."""
        end = monotonic() + seconds
        while not any(self._has_changed(each) for each in contexts):
            left = end - monotonic()
            if left <= 0:
                return False
            sleep(min(left, _PAUSE))
        return True

    def _has_changed(self, context: Context) -> bool:
        # Messages of a paused partition stay in the queue; they must not keep the process busy.
        found = self.count_messages(context) or 0
        before = self._counts.get(context.label, 0)
        self._counts[context.label] = found
        return found not in (0, before)
