"""The long-running process: relay, receive and dispatch, round after round, until it is stopped.

One thread runs all movers in turn. Any number of these processes, workers and drains share the
partitions. An error in one context is logged, and its mover tried again after a growing back-off;
the other contexts go on meanwhile.

A round begins with the question which movers have something to do, one statement a database. When
nothing has moved, a pause follows, which a wake-up ends (``wake_ups.py``). What is not announced,
such as a retry that comes due, is found after the pause.
"""

import time
from collections.abc import Callable, Sequence

from outbox_inbox.conf import settings
from outbox_inbox.contexts import Context
from outbox_inbox.operations import MOVERS, MoverTurn
from outbox_inbox.queues.outcome import ignore, never
from outbox_inbox.queues.servers import renew_connections
from outbox_inbox.queues.wakeup import debounced_nudges, nudge
from outbox_inbox.transports import transport
from outbox_inbox.transports.routing import receivers

from .due import Due, due_movers, labels_by_database
from .interrupt import Interrupt
from .retry import RetriedCall
from .wake_ups import WakeUps

__all__ = ["INTERVAL", "Interrupt", "WakeUps", "run"]

INTERVAL = 1.0
"""The longest pause in seconds between two rounds: the most that a lost wake-up delays a message."""

_FIRST_PAUSE = 0.05
"""Seconds of the first pause after something moved; each further one is twice as long."""


def run(
    chosen: Sequence[Context],
    *,
    interval: float = INTERVAL,
    stop: Callable[[], bool] = never,
    wait: Callable[[float], None] = time.sleep,
    announced: Callable[[], bool] = never,
    report: Callable[[MoverTurn], None] = ignore,
) -> None:
    """Run the movers of some contexts until ``stop`` returns true.

    The transaction that is open then is finished: a batch of the relay, a delivery of the
    dispatcher.

    Arguments:
        chosen: the contexts.
        interval: the longest pause in seconds, after a round in which nothing moved; default 1.
        stop: called between transactions.
        wait: how to pause; one that returns early, such as `Interrupt.wait`, ends the pause.
        announced: returns whether every new message ends a pause, as `WakeUps.complete` does; then
            every pause is the longest. Default: pauses begin short and grow.
        report: called with each turn that changed something.
    """
    rounds = _Rounds(chosen, stop)
    pause = _FIRST_PAUSE
    while not stop():
        with debounced_nudges():
            moved = rounds.run_round()
        for turn in moved:
            report(turn)
        renew_connections()
        if moved:
            pause = _FIRST_PAUSE
        elif not stop():
            wait(interval if announced() else min(pause, interval))
            pause = min(2 * pause, interval)


class _Rounds:
    """Runs the movers of some contexts, again and again."""

    def __init__(self, chosen: Sequence[Context], stop: Callable[[], bool]) -> None:
        self._stop = stop
        self._databases = labels_by_database(chosen)
        self._labels = {context.label for context in chosen}
        self._queries = {
            alias: RetriedCall(f"look into the database {alias!r}", due_movers)
            for alias in self._databases
        }
        self._movers = [
            (context, name, RetriedCall(f"{name} {context.label}", mover))
            for context in chosen
            for name, mover in MOVERS.items()
            if name != "project" or context.read_models
        ]

    def run_round(self) -> list[MoverTurn]:
        """Run the movers that have something to do; return the turns that changed something."""
        due: dict[str, Due] = {}
        for alias, labels in self._databases.items():
            due |= self._find_due(alias, labels)
        moved: list[MoverTurn] = []
        for context, name, mover in self._movers:
            if self._stop():
                break
            if context.label not in due:
                due |= self._find_due(context.database, [context.label])
            if name not in due[context.label]:
                continue
            seen = due[context.label][name]
            outcome = mover(context, stop=self._stop, seen=seen, once=True)
            if outcome is not None and outcome.steps:
                due.clear()  # what has moved may be due for the next mover
                moved.append(MoverTurn(context=context, mover=name, outcome=outcome))
                if name == "relay" and outcome.done:
                    self._nudge_receivers(context)
        return moved

    def _find_due(self, alias: str, labels: Sequence[str]) -> dict[str, Due]:
        """Return which movers have something to do; none, if the database cannot be reached."""
        found = self._queries[alias](alias, labels)
        return {label: {} for label in labels} if found is None else found

    def _nudge_receivers(self, source: Context) -> None:
        """Wake up the processes of other contexts, unless the transport does it itself."""
        if settings().wake_up != "notify" or transport(source.transport).can_wait:
            return
        for receiver, mover in receivers(source):
            if receiver.label not in self._labels:
                nudge(receiver, mover)
