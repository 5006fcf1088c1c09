"""Kills processes and servers at random moments, and starts them again."""

import random
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.acceptance.conftest import PATIENCE, Processes
from tests.support.serving import Server


class Victim(ABC):
    """Something that runs, is killed with -9, and goes on where it was."""

    @abstractmethod
    def start(self, faults: str = "") -> None:
        """Start it, with the faults armed."""

    @abstractmethod
    def kill_within(self, seconds: float) -> None:
        """Let it run so long, and kill it then, unless it has come to its end before."""

    def revive(self) -> None:
        """Start it again, without faults, if one has killed it."""
        return

    @abstractmethod
    def leave(self) -> None:
        """Do what has to be done with it at the end."""


class Command(Victim):
    """``python …`` of a deployment; killed at the end."""

    def __init__(
        self, processes: Processes, arguments: Sequence[str], output: Path | None = None
    ) -> None:
        self.processes = processes
        self.arguments = arguments
        self.output = output
        self.running: subprocess.Popen[str] | None = None

    def start(self, faults: str = "") -> None:
        self.running = self.processes.start(*self.arguments, faults=faults, output=self.output)

    def kill_within(self, seconds: float) -> None:
        assert self.running is not None
        try:
            self.running.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.running.send_signal(signal.SIGKILL)
            self.running.communicate(timeout=PATIENCE)

    def revive(self) -> None:
        assert self.running is not None
        if self.running.poll() == -signal.SIGKILL:
            self.running.communicate()
            self.start()

    def leave(self) -> None:
        self.kill_within(0)


class Broker(Victim):
    """A server of the test's own; running at the end."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def start(self, faults: str = "") -> None:
        self.server.start()

    def kill_within(self, seconds: float) -> None:
        threading.Event().wait(seconds)
        self.server.kill()

    def leave(self) -> None:
        self.server.start()


def kill_at_random(
    victims: Sequence[Victim],
    *,
    kills: int,
    longest: float,
    seed: int,
    faults: Callable[[int], str] = lambda kill: "",
) -> None:
    """Keep victims running side by side, and kill them again and again, each as often as others.

    Arguments:
        kills: how often.
        longest: seconds that may pass before the next kill; the moment is up to chance.
        seed: printed, so that a run can be repeated.
        faults: what else is armed in the process started after a kill of this number.
    """
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    for victim in victims:
        victim.start()
    turn: list[Victim] = []
    for kill in range(kills):
        turn = turn or chance.sample(victims, len(victims))
        victim = turn.pop()
        victim.kill_within(chance.uniform(0, longest))
        victim.start(faults(kill))
        # Else most of them would be dead most of the time, and nothing would be under way.
        for each in victims:
            each.revive()
    for victim in victims:
        victim.leave()
