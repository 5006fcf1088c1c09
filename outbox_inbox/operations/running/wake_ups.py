"""What ends a pause early: notifications, messages that arrive, and nudges of this process.

Each source has a thread of its own, which only waits; the one thread that runs the loop moves the
messages. While a source fails, polling replaces it.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from types import TracebackType
from typing import Self

from outbox_inbox.conf import settings
from outbox_inbox.conf.backoff import Backoff
from outbox_inbox.contexts import Context
from outbox_inbox.queues.wakeup import in_process
from outbox_inbox.queues.wakeup.connection import offered
from outbox_inbox.queues.wakeup.listener import Listener
from outbox_inbox.transports import Transport, transport

from .due import labels_by_database

logger = logging.getLogger(__package__)

_BLOCK = 5.0  # seconds in one call of `wait_for_messages`
_BREATH = 0.005  # seconds between two calls: a transport that returns at once would fill a core
_PAUSES = Backoff(first=timedelta(seconds=0.5), maximum=timedelta(seconds=30))


class WakeUps:
    """All sources that can wake up a loop which runs some contexts; a context manager.

    Enter it in the thread that runs the loop.

    Arguments:
        chosen: the contexts.
        ring: ends a pause of the loop; called by several threads.
    """

    def __init__(self, chosen: Sequence[Context], ring: Callable[[], None]) -> None:
        self._contexts = chosen
        self._ring = ring
        self._sources: list[Listener | Waiter] = []
        self._announced = False
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        notified = self._notified() if settings().wake_up == "notify" else []
        awaited = self._awaited()
        self._sources = [*notified, *awaited]
        with ExitStack() as exits:
            labels = {context.label for context in self._contexts}
            if settings().wake_up == "notify":
                exits.enter_context(in_process.hung(labels, self._ring))
            for source in self._sources:
                source.start()
                exits.callback(source.stop)
            self._exits = exits.pop_all()
        databases = labels_by_database(self._contexts)
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
        """Return whether a source announces every message, so that polling only finds lost ones."""
        return self._announced and all(source.connected for source in self._sources)

    def _notified(self) -> list[Listener]:
        return [
            Listener(alias, set(labels), self._ring)
            for alias, labels in labels_by_database(self._contexts).items()
            if offered(alias)
        ]

    def _awaited(self) -> list["Waiter"]:
        return [
            Waiter(found, chosen, self._ring)
            for found, chosen in self._transports().items()
            if found.can_wait and not found.writes_inboxes
        ]

    def _transports(self) -> dict[Transport, list[Context]]:
        """Return the transports by which the contexts receive, with the contexts of each."""
        found: dict[Transport, list[Context]] = defaultdict(list)
        for context in self._contexts:
            if context.subscribed:
                found[transport(context.transport)].append(context)
        return dict(found)


class Waiter:
    """Waits for messages at one transport, in a thread, until it is stopped.

    Attributes:
        connected: whether the last call of the transport succeeded.
    """

    def __init__(
        self, source: Transport, chosen: Sequence[Context], ring: Callable[[], None]
    ) -> None:
        self.connected = False
        self._source = source
        self._contexts = chosen
        self._ring = ring
        self._stopped = threading.Event()
        name = f"outbox_inbox.wait.{type(source).__name__}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop ringing. The thread ends when its call of the transport returns; it is not joined."""
        self._stopped.set()

    def _run(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                arrived = self._source.wait_for_messages(self._contexts, _BLOCK)
            except Exception as error:  # noqa: BLE001  logged; polling goes on
                self.connected, failures = False, failures + 1
                self._rest(failures, error)
                continue
            self.connected, failures = True, 0
            if arrived and not self._stopped.is_set():
                self._ring()
                self._stopped.wait(_BREATH)

    def _rest(self, failures: int, error: Exception) -> None:
        pause = _PAUSES.delay(failures).total_seconds()
        logger.warning(
            "not waiting for messages at %s: %s: %s (next try in %.1f s; polling meanwhile)",
            type(self._source).__name__,
            type(error).__name__,
            " ".join(str(error).split()),
            pause,
        )
        self._stopped.wait(pause)
