"""The other end of NOTIFY: a thread that listens to one database, and says when there is work."""

import logging
import selectors
import socket
import threading
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import TYPE_CHECKING

from outbox_inbox.conf.backoff import Backoff

from .connection import connect
from .notifier import CHANNEL, own_pids

if TYPE_CHECKING:
    from psycopg import Connection

logger = logging.getLogger(__package__)

_PAUSES = Backoff(first=timedelta(seconds=0.5), maximum=timedelta(seconds=30))


class Listener:
    """Listens until it is stopped, over as many connections as that takes.

    Arguments:
        alias: the database, on PostgreSQL.
        labels: the contexts whose work matters.
        ring: called, in the listener's thread, when there may be work.

    Attributes:
        connected: whether it listens now; while it does not, work has to be found by polling.
    """

    def __init__(self, alias: str, labels: AbstractSet[str], ring: Callable[[], None]) -> None:
        self.connected = False
        self._alias = alias
        self._labels = labels
        self._ring = ring
        self._stopped = threading.Event()
        self._mine, self._others = socket.socketpair()
        name = f"outbox_inbox.listen.{alias}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and its connection; one that is being opened is not waited for long."""
        self._stopped.set()
        self._others.close()  # what the thread waits for beside notifications
        self._thread.join(1)

    def _run(self) -> None:
        with self._mine:
            self._listen_until_stopped()

    def _listen_until_stopped(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                with connect(self._alias) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    if failures:
                        logger.info("listening to the database %r again", self._alias)
                    failures, self.connected = 0, True
                    self._ring()  # for what was committed while nobody listened
                    self._listen(connection)
            except Exception as error:  # noqa: BLE001  whatever it is: polling goes on, and so do we
                failures += 1
                self._rest(failures, error)
            finally:
                self.connected = False

    def _listen(self, connection: "Connection") -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(self._mine, selectors.EVENT_READ)
            while not self._stopped.is_set():
                selector.select()
                if not self._stopped.is_set() and self._is_meant(connection):
                    self._ring()

    def _is_meant(self, connection: "Connection") -> bool:
        """Read what has come; tell whether others have work for us.

        Raises:
            psycopg.OperationalError: the connection is gone.
        """
        meant, own = False, own_pids()
        connection.pgconn.consume_input()
        while (note := connection.pgconn.notifies()) is not None:
            label = note.extra.decode().partition(" ")[0]
            meant = meant or (label in self._labels and note.be_pid not in own)
        return meant

    def _rest(self, failures: int, error: Exception) -> None:
        pause = _PAUSES.delay(failures).total_seconds()
        logger.warning(
            "not listening to the database %r: %s: %s (next try in %.1f s; polling meanwhile)",
            self._alias,
            type(error).__name__,
            " ".join(str(error).split()),
            pause,
        )
        self._stopped.wait(pause)
