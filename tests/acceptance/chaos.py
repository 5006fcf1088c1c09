"""Kills processes at random moments, and starts them again."""

import random
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

from tests.acceptance.conftest import PATIENCE, Processes

Command = Sequence[str]


def kill_at_random(
    processes: Processes,
    commands: Sequence[Command],
    *,
    kills: int,
    longest: float,
    seed: int,
    faults: Callable[[int], str] = lambda kill: "",
) -> None:
    """Keep commands running side by side, and kill one of them again and again.

    Arguments:
        kills: how often.
        longest: seconds that may pass before the next kill; the moment is up to chance.
        seed: printed, so that a run can be repeated.
        faults: what else is armed in the process started after a kill of this number.
    """
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    running = [processes.start(*command) for command in commands]
    for kill in range(kills):
        victim = chance.randrange(len(commands))
        _kill_within(running[victim], chance.uniform(0, longest))
        running[victim] = processes.start(*commands[victim], faults=faults(kill))
    for process in running:
        _kill_within(process, 0)


def _kill_within(process: subprocess.Popen[str], seconds: float) -> None:
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
