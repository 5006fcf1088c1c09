"""What ends a pause early: notifications, messages that arrive, and nudges of this process.

Each source has a thread of its own, which does nothing but wait; all the work is done by the one
thread that runs the loop. While a source fails, polling makes up for it.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Self

from outbox_inbox.conf import settings
from outbox_inbox.contexts import Context
from outbox_inbox.queues.outages import RECONNECT, Outage
from outbox_inbox.queues.wakeup import in_process
from outbox_inbox.queues.wakeup.connection import can_notify
from outbox_inbox.queues.wakeup.listener import Listener
from outbox_inbox.signals.logging import get_logger
from outbox_inbox.transports import Transport, transport

from .due import labels_by_database

logger = get_logger(__package__)

_BLOCK = 5.0  # seconds in one call of `wait_for_messages`
_BREATH = 0.005  # seconds between two calls: a transport that returns at once must not spin


class WakeUps:
    """All that can wake up a loop which runs some contexts; a context manager.

    Enter it in the thread that runs the loop.

    Arguments:
        contexts: what the loop runs.
        ring: ends a pause of the loop; called by several threads.
    """

    def __init__(self, contexts: Sequence[Context], ring: Callable[[], None]) -> None:
        self._contexts = contexts
        self._ring = ring
        self._sources: list[Listener | Waiter] = []
        self._announced = False
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        by_notify = settings().wake_up == "notify"
        databases, transports = labels_by_database(self._contexts), self._transports()
        listeners = [
            Listener(alias, set(labels), self._ring)
            for alias, labels in databases.items()
            if by_notify and can_notify(alias)
        ]
        waiters = [
            Waiter(found, contexts, self._ring)
            for found, contexts in transports.items()
            if found.can_wait and not found.writes_inboxes
        ]
        self._sources = [*listeners, *waiters]
        with ExitStack() as exits:
            if by_notify:
                labels = {context.label for context in self._contexts}
                exits.enter_context(in_process.listening(labels, self._ring))
            for source in self._sources:
                source.start()
                exits.callback(source.stop)
            self._exits = exits.pop_all()
        silent = [each for each in transports if not (each.writes_inboxes or each.can_wait)]
        self._announced = len(listeners) == len(databases) and not silent
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def complete(self) -> bool:
        """Return whether a wake-up announces all that may come, so that polling is only the floor."""
        return self._announced and all(source.connected for source in self._sources)

    def _transports(self) -> dict[Transport, list[Context]]:
        """Return the transports that contexts receive by."""
        found: dict[Transport, list[Context]] = defaultdict(list)
        for context in self._contexts:
            if context.subscribed:
                found[transport(context.transport)].append(context)
        return found


class Waiter:
    """Waits for messages at one transport, in a thread, until it is stopped.

    Attributes:
        connected: whether the transport answered the last time.
    """

    def __init__(
        self, source: Transport, contexts: Sequence[Context], ring: Callable[[], None]
    ) -> None:
        self.connected = False
        self._source = source
        self._contexts = contexts
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
                arrived = self._source.wait_for_messages(self._contexts, _BLOCK)
            except Exception as error:  # noqa: BLE001  whatever it is, polling goes on: try again
                self.connected = False
                self._stopped.wait(self._outage.note_failure(error))
                continue
            self._outage.note_success()
            self.connected = True
            if arrived and not self._stopped.is_set():
                self._ring()
                self._stopped.wait(_BREATH)
