"""How a process pauses and stops: a signal or a wake-up ends a pause at once.

A process that only noticed a signal after its pause would be killed by an impatient supervisor.
"""

import os
import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType


class Interrupt:
    """Whether SIGTERM or SIGINT has asked the process to stop; call it to find out.

    A second signal ends the process at once: the database rolls the open transaction back.
    """

    def __init__(self) -> None:
        self._asked = False
        self._mine, self._woken = socket.socketpair()
        for end in (self._mine, self._woken):
            end.setblocking(False)

    def __call__(self) -> bool:
        """Return whether to stop."""
        return self._asked

    def wait(self, seconds: float) -> None:
        """Pause, but no longer than until a signal or a wake-up comes, or has come since the last."""
        if not self._asked:
            select.select([self._mine], [], [], seconds)
            with suppress(BlockingIOError):
                self._mine.recv(4096)  # several wake-ups end one pause, not the next ones as well

    def wake(self) -> None:
        """End the pause, or the next one; may be called by any thread."""
        with suppress(OSError):  # full: the pause ends anyway; closed: there are no pauses any more
            self._woken.send(b"\0")

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._asked:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._asked = True

    @contextmanager
    def installed(self) -> Iterator["Interrupt"]:
        """Take over the signals within the block; in the main thread only, else do nothing."""
        with self._mine, self._woken, ExitStack() as exits:
            if threading.current_thread() is threading.main_thread():
                for number in (signal.SIGTERM, signal.SIGINT):
                    exits.callback(signal.signal, number, signal.signal(number, self._handle))
                # The byte that Python writes there ends a pause; a flag alone is noticed after it.
                waker = signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
                exits.callback(signal.set_wakeup_fd, waker)
            yield self
