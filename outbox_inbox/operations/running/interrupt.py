"""How a process pauses: for so long, or until a signal or a wake-up comes."""

import os
import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType


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
        """Pause, but no longer than until a signal or a wake-up comes, or has come since the last."""
        if not self._asked:
            select.select([self._mine], [], [], seconds)
            with suppress(BlockingIOError):
                self._mine.recv(4096)  # one pause is ended, not the next ones as well

    def wake(self) -> None:
        """End the pause, or the next one; may be called by any thread."""
        with suppress(OSError):  # full: it ends anyway; closed: nobody pauses any more
            self._woken.send(b"\0")

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
