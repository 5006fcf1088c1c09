"""What servers of the tests' own have in common: a port, a folder, and an end under all circumstances."""

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

# The server is this process itself. Beside it waits a shell that reads from a pipe of ours, and
# kills both when its other end is closed, as after kill -9 of the tests.
GUARDED = (
    'exec 3<&0 </dev/null; { read _ <&3; rm -rf "$PWD"; kill -KILL 0; } & exec 3<&-; exec "$@"'
)


class Server(ABC):
    """A server that can be started, stopped, killed and started again.

    Attributes:
        port: where it listens, the same all the time.
        folder: what it keeps, over restarts as well.
    """

    patience: ClassVar[float] = 30
    """Seconds within which it has to answer, or to be gone."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="outbox_inbox-server-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        atexit.register(self.close)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL for clients."""

    @property
    def running(self) -> bool:
        """Whether it has been started, and not ended since."""
        return bool(self._processes) and self._processes[-1].poll() is None

    def start(self) -> None:
        """Start it, and wait until it answers; nothing is done when it runs.

        Raises:
            RuntimeError: it ended at once, or does not answer; with the end of its output.
        """
        if not self.running:
            self._launch()
            self._wait(self._answers, "it does not answer")

    def kill(self) -> None:
        """End it without a chance to write anything (kill -9), and wait until it is gone."""
        for process in self._processes:
            _end(process)
        self._processes.clear()

    def restart(self) -> None:
        """Kill it, and start it with what it had kept."""
        self.kill()
        self.start()

    def close(self) -> None:
        """End it and remove its folder; harmless when repeated."""
        atexit.unregister(self.close)
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @abstractmethod
    def _launch(self) -> None:
        """Start its process."""

    @abstractmethod
    def _greet(self) -> None:
        """Ask for an answer; raise when there is none."""

    def _spawn(self, *command: str, **options: Any) -> None:
        with (self.folder / "output").open("ab") as output:
            self._processes.append(
                subprocess.Popen(
                    ["/bin/sh", "-c", GUARDED, "sh", *command],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    cwd=self.folder,
                    **options,
                )
            )

    def _answers(self) -> bool:
        try:
            self._greet()
        except Exception:  # noqa: BLE001  whatever goes wrong, it does not answer yet
            return False
        return True

    def _wait(self, condition: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + self.patience
        while not condition():
            if not self.running or time.monotonic() > deadline:
                output = (self.folder / "output").read_text(errors="replace")[-2_000:]
                name = type(self).__name__
                raise RuntimeError(f"{name} on port {self.port}: {otherwise}\n{output}")
            threading.Event().wait(0.01)


def free_port() -> int:
    """Return a port of the loopback interface that is free now, and that no client is given.

    The system gives clients ports from 32768 on: while a server is down one of them could have its
    port, even one that tries to connect to it, and so is connected to itself.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with its children and its guard, and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
