"""PostgreSQL's way: NOTIFY, sent after the commit, by a thread, over a connection of its own.

``pg_notify`` within the writing transaction takes a lock of the whole server at its commit, which
costs a third to a half of the throughput. So the thread that committed only puts its nudge into
a set; the nudges of a few milliseconds are sent together, each of them once.
"""

import atexit
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from django.db import connections

from outbox_inbox.conf.clock import monotonic
from outbox_inbox.contexts import contexts
from outbox_inbox.queues.servers import MAX_AGE

from . import in_process
from .connection import can_notify, connect, missing_driver
from .failures import Failures

if TYPE_CHECKING:
    from psycopg import Connection

CHANNEL: Final = "outbox_inbox"
"""The channel's name; what is sent over it is "<label> <mover>", such as "shop relay"."""

WINDOW = 0.01
"""Seconds between two statements of a sender: the nudges of that time are sent together."""

_IDLE = 300.0  # seconds without a nudge after which the connection is closed
_PATIENCE = 1.0  # seconds for which the end of a process may wait for its last nudges


def send_nudge(alias: str, label: str, mover: str) -> None:
    """Have the nudge sent soon, and ring in this process now; nothing happens beside PostgreSQL."""
    if can_notify(alias):
        in_process.ring_other_threads(label)
        _sender(alias).add(f"{label} {mover}")


def problem() -> str | None:
    """Return why nudges could wake up no worker; None: they can."""
    for context in contexts():
        if connections[context.database].vendor != "postgresql":
            return (
                'OUTBOX_INBOX["WAKE_UP"] is "notify", which only PostgreSQL offers, and the '
                f"context {context.label!r} is on the database {context.database!r}, which is "
                f"{connections[context.database].display_name}"
            )
    missing = missing_driver()
    return None if missing is None else f'OUTBOX_INBOX["WAKE_UP"] is "notify", and {missing}'


def failures() -> int:
    """Return how many nudges of this process were not sent."""
    return sum(sender.failures.count for sender in _mine())


def own_pids() -> set[int | None]:
    """Return the server processes by which this process sends: its own listeners know already."""
    return {sender.pid for sender in _mine()}


def end_senders() -> None:
    """Send what is left at the end of the process, such as a command that records and exits."""
    for key, sender in list(_senders.items()):
        if key[0] == os.getpid():
            sender.end()
            del _senders[key]


class _Sender:
    """Sends the nudges of this process for one database, in a thread that lives while needed."""

    def __init__(self, alias: str) -> None:
        self.failures = Failures()
        self.pid: int | None = None
        self._alias = alias
        self._lock = threading.Lock()
        self._nudges: set[str] = set()
        self._filled = threading.Event()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._opened = float("-inf")
        self._ending = False

    def add(self, nudge: str) -> None:
        """Have a nudge sent; one that is waiting already is enough."""
        with self._lock:
            if nudge in self._nudges:
                return
            self._nudges.add(nudge)
            if self._thread is None:
                name = f"outbox_inbox.notify.{self._alias}"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                thread.start()  # if it cannot be started, the next nudge tries again
                self._thread = thread
        self._filled.set()

    def end(self) -> None:
        """Send what is left, and stop."""
        self._ending = True
        self._filled.set()
        if (thread := self._thread) is not None:
            thread.join(_PATIENCE)

    def _run(self) -> None:
        try:
            while self._wait_for_nudges():
                self._send()
                if not self._ending:
                    time.sleep(WINDOW)
        finally:
            self._close()

    def _wait_for_nudges(self) -> bool:
        """Wait for nudges; return false after a long time without one, or at the end of the process."""
        filled = self._ending or self._filled.wait(_IDLE)
        self._filled.clear()
        with self._lock:
            if self._nudges or (filled and not self._ending):
                return True
            # Under the lock of `add`: a nudge that comes from now on starts another thread. Otherwise
            # it would be left to one that has just decided to end.
            self._thread = None
            return False

    def _send(self) -> None:
        with self._lock:
            nudges, self._nudges = sorted(self._nudges), set()
        if not nudges or self.failures.muted(len(nudges)):
            return
        try:
            self._notify(nudges)
        except Exception as error:  # noqa: BLE001  whatever it is, the work is found by polling
            self._close()
            self.failures.note_failure(error, ", ".join(nudges), len(nudges))

    def _notify(self, nudges: list[str]) -> None:
        if monotonic() - self._opened >= MAX_AGE.total_seconds():
            self._close()  # the primary may be another server by now
        if self._connection is not None:
            # It may have broken at a restart of the server since the last nudge: try a new one then.
            with suppress(Exception):
                return _notify(self._connection, nudges)
            self._close()
        self._connection, self._opened = connect(self._alias), monotonic()
        self.pid = self._connection.info.backend_pid
        return _notify(self._connection, nudges)

    def _close(self) -> None:
        connection, self._connection, self.pid = self._connection, None, None
        if connection is not None:
            with suppress(Exception):
                connection.close()


def _notify(connection: "Connection", nudges: list[str]) -> None:
    connection.execute(
        "SELECT pg_notify(%s, nudge) FROM unnest(%s::text[]) AS nudge", [CHANNEL, nudges]
    )


_senders: dict[tuple[int, str], _Sender] = {}
"""By process and alias: after a fork a sender of the parent has no thread, and shares its socket.

It is kept all the same: closing its connection in the child would end the parent's session.
"""


def _mine() -> list[_Sender]:
    return [sender for (process, _), sender in list(_senders.items()) if process == os.getpid()]


def _sender(alias: str) -> _Sender:
    """Return the sender of this process; without a lock, which a fork could leave locked for ever."""
    key = os.getpid(), alias
    found = _senders.get(key)
    if found is None:
        atexit.register(end_senders)
        found = _senders.setdefault(key, _Sender(alias))
    return found
