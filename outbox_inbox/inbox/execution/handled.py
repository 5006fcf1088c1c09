"""What was handled last, by which a delivery is recognised whose mark was undone.

A consumer may roll back past Django, in a way that the watch over its statements does not see. The
mark that it is done is gone then, and without this memory it would be handled without end.
"""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.queues.moments import Moment
from outbox_inbox.queues.servers import memory
from outbox_inbox.queues.statements import ReadyRow

REMEMBERED = 5_000
"""How many deliveries are remembered at least, for each database and thread."""


class Handled:
    """Some thousands of deliveries that were handled last, one by one, in one database.

    They are recognised by their id, by that of their message, since ids begin again in a database
    that is made anew, and by their attempts: the next attempt after a failed one is made.
    """

    def __init__(self) -> None:
        self._newer: set[tuple[int, Any, int]] = set()
        self._older: set[tuple[int, Any, int]] = set()

    def add(self, row: ReadyRow) -> None:
        """Remember a delivery that is done."""
        self._newer.add((row.id, row.message_id, row.attempts))
        if len(self._newer) > REMEMBERED:
            self._older, self._newer = self._newer, set()

    def has(self, row: ReadyRow) -> bool:
        """Return whether the very attempt that a delivery is ready for was successful before."""
        known = (row.id, row.message_id, row.attempts)
        return known in self._newer or known in self._older


def handled(connection: BaseDatabaseWrapper) -> Handled:
    """Return what was handled in a database since a connection to it broke, or a test began.

    After the one it may be another server, which was behind and has lost commits: its deliveries are
    ready again, and no consumer is to blame. After the other, ids begin again.
    """
    test = Moment.now(connection.alias).test
    kept = memory(connection)
    if kept.get("test") != test:
        kept.update(test=test, handled=Handled())
    found: Handled = kept["handled"]
    return found
