"""What ends a pause early: notifications, messages that arrive, and nudges of this process.

Each source has a thread of its own, which does nothing but wait; all the work is done by the one
thread that runs the loop. While a source fails, polling makes up for it.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from outbox_inbox.conf import settings
from outbox_inbox.contexts import Context
from outbox_inbox.queues.outages import RECONNECT, Outage
from outbox_inbox.queues.wakeup import in_process
from outbox_inbox.queues.wakeup.connection import can_notify
from outbox_inbox.queues.wakeup.listener import Listener
from outbox_inbox.transports import Transport, transport

from .due import labels_by_database

logger = logging.getLogger(__package__)

_BLOCK = 5.0  # seconds in one call of `wait_for_messages`
_BREATH = 0.005  # seconds between two calls: a transport that returns at once must not spin


class WakeUps:
    """All that can wake up a loop which runs some contexts; a context manager.

    Enter it in the thread that runs the loop.

    Arguments:
        owners: the contexts.
        ring: ends a pause of the loop; called by several threads.
    """

    def __init__(self, owners: Sequence[Context], ring: Callable[[], None]) -> None:
        self._owners = owners
        self._ring = ring
        self._sources: list[Listener | Waiter] = []
        self._announced = False
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        notified = self._notified() if settings().wake_up == "notify" else []
        awaited = self._awaited()
        self._sources = [*notified, *awaited]
        with ExitStack() as exits:
            labels = {context.label for context in self._owners}
            if settings().wake_up == "notify":
                exits.enter_context(in_process.listening(labels, self._ring))
            for source in self._sources:
                source.start()
                exits.callback(source.stop)
            self._exits = exits.pop_all()
        databases = labels_by_database(self._owners)
        silent = [t for t in self._transports() if not (t.writes_inboxes or t.can_wait)]
        self._announced = len(notified) == len(databases) and not silent
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exits.close()

    def complete(self) -> bool:
        """Return whether a wake-up announces all that may come, so that polling is only the floor."""
        return self._announced and all(source.connected for source in self._sources)

    def _notified(self) -> list[Listener]:
        return [
            Listener(alias, set(labels), self._ring)
            for alias, labels in labels_by_database(self._owners).items()
            if can_notify(alias)
        ]

    def _awaited(self) -> list["Waiter"]:
        return [
            Waiter(found, owners, self._ring)
            for found, owners in self._transports().items()
            if found.can_wait and not found.writes_inboxes
        ]

    def _transports(self) -> dict[Transport, list[Context]]:
        """Return the transports that contexts receive by."""
        found: dict[Transport, list[Context]] = defaultdict(list)
        for context in self._owners:
            if context.subscribed:
                found[transport(context.transport)].append(context)
        return dict(found)


class Waiter:
    """Waits for messages at one transport, in a thread, until it is stopped.

    Attributes:
        connected: whether the transport answered the last time.
    """

    def __init__(
        self, source: Transport, owners: Sequence[Context], ring: Callable[[], None]
    ) -> None:
        self.connected = False
        self._source = source
        self._owners = owners
        self._ring = ring
        self._stopped = threading.Event()
        self._outage = Outage(
            f"wait for messages at {type(source).__name__}",
            logger,
            RECONNECT,
            meanwhile="polling meanwhile",
        )
        name = f"outbox_inbox.wait.{type(source).__name__}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to wait."""
        self._thread.start()

    def stop(self) -> None:
        """Ring no more. The thread ends by itself, when the call that it is in returns."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                arrived = self._source.wait_for_messages(self._owners, _BLOCK)
            except Exception as error:  # noqa: BLE001  whatever it is, polling goes on: try again
                self.connected = False
                self._stopped.wait(self._outage.note_failure(error))
                continue
            self._outage.note_success()
            self.connected = True
            if arrived and not self._stopped.is_set():
                self._ring()
                self._stopped.wait(_BREATH)
