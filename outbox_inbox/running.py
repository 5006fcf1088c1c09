"""The long-running process: relay, receive and dispatch, round after round, until it is stopped.

One thread does everything in turn. It is not the only one that may: any number of these processes,
workers and drains share the partitions. Whatever goes wrong for one context is logged, and tried
again after a growing pause; the others go on meanwhile.
"""

import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType

from django.db import Error as DatabaseError
from django.db import connections

from .backoff import Backoff
from .contexts import Context
from .exceptions import TransportUnavailable
from .operations import WORK, Step
from .tally import never
from .wakeup import Work, gathered

logger = logging.getLogger(__name__)

INTERVAL = 0.25
"""Seconds between two looks at queues that were empty; a look is two statements a context."""

_PAUSES = Backoff(first=timedelta(seconds=1), maximum=timedelta(seconds=30))


def _to_nobody(step: Step) -> None:
    """Report to nobody."""


def run(
    owners: Sequence[Context],
    *,
    interval: float = INTERVAL,
    stop: Callable[[], bool] = never,
    wait: Callable[[float], None] = time.sleep,
    report: Callable[[Step], None] = _to_nobody,
) -> None:
    """Do what there is to do for some contexts, until ``stop`` says so.

    What is being moved when it does is finished: a batch of the relay, a transaction of the
    dispatcher.

    Arguments:
        owners: the contexts.
        interval: pause in seconds after a round in which nothing moved.
        stop: asked between transactions.
        wait: how to pause; one that returns early, such as `Interrupt.wait`, ends the pause.
        report: told each step that changed something.
    """
    turns = [_Turn(owner, work) for owner in owners for work in WORK]
    while not stop():
        with gathered():
            steps = [turn.take(stop) for turn in turns]
        moved = [step for step in steps if step is not None and step.outcome.steps]
        for step in moved:
            report(step)
        _tidy()
        if not moved and not stop():
            wait(interval)


class _Turn:
    """One mover's turn at one context, again and again; it stays away after a failure."""

    def __init__(self, owner: Context, work: Work) -> None:
        self._owner = owner
        self._work = work
        self._failures = 0
        self._not_before = float("-inf")

    def take(self, stop: Callable[[], bool]) -> Step | None:
        """Do what is due; None when it failed or is still to stay away."""
        if stop() or time.monotonic() < self._not_before:
            return None
        try:
            outcome = WORK[self._work](self._owner, stop=stop)
        except Exception as error:  # noqa: BLE001  logged, and tried again
            self._note(error)
            return None
        if self._failures:
            logger.info("%s %s works again", self._work, self._owner.label)
            self._failures = 0
        return Step(owner=self._owner, work=self._work, outcome=outcome)

    def _note(self, error: Exception) -> None:
        self._failures += 1
        pause = _PAUSES.delay(self._failures).total_seconds()
        self._not_before = time.monotonic() + pause
        # An outage explains itself; anything else needs its traceback to be found.
        outage = isinstance(error, DatabaseError | TransportUnavailable)
        logger.error(
            "cannot %s %s: %s: %s (next try in %.1f s)",
            self._work,
            self._owner.label,
            type(error).__name__,
            str(error).strip(),
            pause,
            exc_info=None if outage else error,
        )


def _tidy() -> None:
    """Drop connections that broke or are too old, so that the next round opens new ones."""
    for connection in connections.all(initialized_only=True):
        # CONN_MAX_AGE = 0 means one request; here it would mean four connections a second.
        if connection.errors_occurred or connection.settings_dict["CONN_MAX_AGE"]:
            connection.close_if_unusable_or_obsolete()


class Interrupt:
    """Asked to stop by SIGTERM or SIGINT; call it to find out.

    A second signal ends the process at once: the database rolls back what was under way.
    """

    def __init__(self) -> None:
        self._asked = False
        self._mine, self._woken = socket.socketpair()
        for end in (self._mine, self._woken):
            end.setblocking(False)

    def __call__(self) -> bool:
        """Tell whether to stop."""
        return self._asked

    def wait(self, seconds: float) -> None:
        """Pause, but no longer than until a signal comes."""
        if not self._asked:
            select.select([self._mine], [], [], seconds)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._asked:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._asked = True

    @contextmanager
    def installed(self) -> Iterator["Interrupt"]:
        """Take over the signals within the block; in the main thread only, else do nothing."""
        try:
            if threading.current_thread() is not threading.main_thread():
                yield self
                return
            numbers = (signal.SIGTERM, signal.SIGINT)
            before = {number: signal.signal(number, self._handle) for number in numbers}
            # The byte written here ends a pause; a flag alone would be seen at its end.
            waker = signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
            try:
                yield self
            finally:
                signal.set_wakeup_fd(waker)
                for number, handler in before.items():
                    signal.signal(number, handler)
        finally:
            self._mine.close()
            self._woken.close()
