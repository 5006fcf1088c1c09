"""The long-running process: relay, receive and dispatch, round after round, until it is stopped.

One thread does everything in turn. It is not the only one that may: any number of these processes,
workers and drains share the partitions. Whatever goes wrong for one context is logged, and tried
again after a growing pause; the others go on meanwhile.

A round begins with a look around, one statement a database. When nothing has moved, a pause
follows, which a wake-up ends (``waking.py``); what nobody announces, such as a retry that comes
due, is found by the look after it.
"""

import time
from collections.abc import Callable, Sequence

from django.db import connections

from outbox_inbox.conf import settings
from outbox_inbox.contexts import Context
from outbox_inbox.operations import WORK, MoverTurn
from outbox_inbox.queues.outcome import never
from outbox_inbox.queues.wakeup import debounced_nudges, nudge
from outbox_inbox.transports import transport
from outbox_inbox.transports.routing import receivers

from .due import Due, by_database, look_around
from .interrupt import Interrupt
from .retry import RetriedCall
from .wake_ups import WakeUps

__all__ = ["INTERVAL", "Interrupt", "WakeUps", "run"]

INTERVAL = 1.0
"""The longest pause in seconds between two looks: the floor under all wake-ups."""

_FIRST_PAUSE = 0.05
"""Seconds of the first pause after something moved; each further one is twice as long."""


def _to_nobody(step: MoverTurn) -> None:
    """Report to nobody."""


def run(
    owners: Sequence[Context],
    *,
    interval: float = INTERVAL,
    stop: Callable[[], bool] = never,
    wait: Callable[[float], None] = time.sleep,
    announced: Callable[[], bool] = never,
    report: Callable[[MoverTurn], None] = _to_nobody,
) -> None:
    """Do what there is to do for some contexts, until ``stop`` says so.

    What is being moved when it does is finished: a batch of the relay, a transaction of the
    dispatcher.

    Arguments:
        owners: the contexts.
        interval: the longest pause in seconds, after a round in which nothing moved; default 1.
        stop: asked between transactions.
        wait: how to pause; one that returns early, such as `Interrupt.wait`, ends the pause.
        announced: tells whether a pause is ended when there is work, as `WakeUps.complete` does;
            then every pause is the longest. Default: pauses begin short and grow.
        report: told each step that changed something.
    """
    rounds = _Rounds(owners, stop)
    pause = _FIRST_PAUSE
    while not stop():
        with debounced_nudges():
            moved = rounds.take()
        for step in moved:
            report(step)
        _tidy()
        if moved:
            pause = _FIRST_PAUSE
        elif not stop():
            wait(interval if announced() else min(pause, interval))
            pause = min(2 * pause, interval)


class _Rounds:
    """Goes around the contexts, again and again."""

    def __init__(self, owners: Sequence[Context], stop: Callable[[], bool]) -> None:
        self._stop = stop
        self._databases = by_database(owners)
        self._labels = {context.label for context in owners}
        self._looks = {
            alias: RetriedCall(f"look into the database {alias!r}", look_around)
            for alias in self._databases
        }
        self._turns = [
            (context, work, RetriedCall(f"{work} {context.label}", WORK[work]))
            for context in owners
            for work in WORK
            if work != "project" or context.read_models
        ]

    def take(self) -> list[MoverTurn]:
        """Do what there is to do for each context in turn; return what has changed something."""
        due: dict[str, Due] = {}
        for alias, labels in self._databases.items():
            due |= self._look(alias, labels)
        moved: list[MoverTurn] = []
        for context, work, turn in self._turns:
            if self._stop():
                break
            if context.label not in due:
                due |= self._look(context.database, [context.label])
            if work not in due[context.label]:
                continue
            outcome = turn(context, stop=self._stop, seen=due[context.label][work])
            if outcome is not None and outcome.steps:
                due.clear()  # what has moved may be the next one's work
                moved.append(MoverTurn(context=context, work=work, outcome=outcome))
                if work == "relay" and outcome.done:
                    self._tell_receivers(context)
        return moved

    def _look(self, alias: str, labels: Sequence[str]) -> dict[str, Due]:
        """Return what there is to do; nothing, if the database cannot be asked."""
        found = self._looks[alias](alias, labels)
        return {label: {} for label in labels} if found is None else found

    def _tell_receivers(self, source: Context) -> None:
        """Wake up the processes of other contexts, unless the transport does it itself."""
        if settings().wake_up != "notify" or transport(source.transport).can_wait:
            return
        for receiver, work in receivers(source):
            if receiver.label not in self._labels:
                nudge(receiver, work)


def _tidy() -> None:
    """Drop connections that broke or are too old, so that the next round opens new ones."""
    for connection in connections.all(initialized_only=True):
        # CONN_MAX_AGE = 0 means one request; here it would mean a connection a round.
        close_at = connection.close_at if connection.settings_dict["CONN_MAX_AGE"] else None
        too_old = close_at is not None and time.monotonic() >= close_at
        # Not at every round: with CONN_HEALTH_CHECKS that costs a statement.
        if connection.errors_occurred or too_old:
            connection.close_if_unusable_or_obsolete()
