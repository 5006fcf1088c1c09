"""The other end of NOTIFY: a thread that listens to one database, and ends a pause when there is work.

Without it a worker would find out by polling, up to a second later.
"""

import selectors
import socket
import threading
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from outbox_inbox.conf.clock import monotonic
from outbox_inbox.queues.outages import RECONNECT, Outage
from outbox_inbox.queues.servers import MAX_AGE
from outbox_inbox.signals.logging import get_logger

from .connection import connect, refuse_standby
from .notifier import CHANNEL, own_pids

if TYPE_CHECKING:
    from psycopg import Connection

logger = get_logger(__package__)


class Listener:
    """Listens to a PostgreSQL database until it is stopped, over as many connections as that takes.

    Arguments:
        labels: the contexts whose work matters.
        ring: called, in the listener's thread, when there may be work.

    Attributes:
        connected: whether it listens now; while it does not, polling must find the work.
    """

    def __init__(self, alias: str, labels: AbstractSet[str], ring: Callable[[], None]) -> None:
        self.connected = False
        self._alias = alias
        self._labels = labels
        self._ring = ring
        self._outage = Outage(
            f"listen to the database {alias!r}", logger, RECONNECT, meanwhile="polling meanwhile"
        )
        self._stopped = threading.Event()
        self._mine, self._others = socket.socketpair()
        name = f"outbox_inbox.listen.{alias}"
        self._thread = threading.Thread(target=self._listen_until_stopped, name=name, daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and its connection; do not wait long for one that is being opened."""
        self._stopped.set()
        self._others.close()  # ends the select() that the thread is in
        self._thread.join(1)

    def _listen_until_stopped(self) -> None:
        with self._mine:
            while not self._stopped.is_set():
                try:
                    self._listen()
                except Exception as error:  # noqa: BLE001  whatever it is, polling goes on: try again
                    self._stopped.wait(self._outage.note_failure(error))

    def _listen(self) -> None:
        """Listen over one connection until it is lost, or the listener is stopped."""
        try:
            with connect(self._alias) as connection:
                refuse_standby(connection, self._alias)
                connection.execute(f"LISTEN {CHANNEL}")
                self._outage.note_success()
                self.connected = True
                # A notification sent before LISTEN took effect is missed: look once.
                self._ring()
                self._ring_when_notified(connection)
        finally:
            self.connected = False

    def _ring_when_notified(self, connection: "Connection") -> None:
        # Not for ever over one connection: the primary may be another server by now, and from the one
        # before it no notification comes.
        end = monotonic() + MAX_AGE.total_seconds()
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(self._mine, selectors.EVENT_READ)
            while not self._stopped.is_set() and (left := end - monotonic()) > 0:
                selector.select(left)
                if not self._stopped.is_set() and self._is_meant(connection):
                    self._ring()

    def _is_meant(self, connection: "Connection") -> bool:
        """Read the notifications that arrived; return whether another process announced work."""
        meant, own = False, own_pids()
        connection.pgconn.consume_input()
        while (note := connection.pgconn.notifies()) is not None:
            label = note.extra.decode().partition(" ")[0]
            meant = meant or (label in self._labels and note.be_pid not in own)
        return meant
