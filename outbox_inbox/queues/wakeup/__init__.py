"""Nudges: after a commit that left work behind, wake somebody up to do it.

A nudge is never a message. The work stands in the tables and is found by polling anyway, so a
nudge that is lost, late or doubled costs time and nothing else. That is why it is sent after the
commit, once a transaction, and why its failure is only counted. ``WAKE_UP`` chooses the way:
Celery's (``celery.py``) or PostgreSQL's (``notify.py``).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from django.db import connections, transaction

from outbox_inbox.conf import settings
from outbox_inbox.contexts import Context, get_context

from . import celery, notifier
from .celery import TASKS, MoverName

__all__ = [
    "TASKS",
    "MoverName",
    "failures",
    "gathered",
    "nudge",
    "problem",
]

_PAUSE = 0.2  # seconds between two equal nudges of one piece of work


def failures() -> int:
    """Return how many nudges of this process were not sent, by which way ever."""
    return celery.failures.count + notifier.failures()


def problem() -> str | None:
    """Say what is wrong with the setting ``WAKE_UP``; None: nothing."""
    return notifier.problem() if settings().wake_up == "notify" else None


def nudge(context: Context, work: MoverName = "relay") -> None:
    """Have the work of a context done soon, if the transaction that is open commits.

    Called as often as one likes: at most one nudge a transaction, context and kind of work is
    sent. It never raises, whatever is out of reach, and sends nothing in the caller's transaction.

    Arguments:
        context: whose work; its database is the one of the transaction.
        work: "relay" (default), "receive", "dispatch" or "project".
    """
    if settings().wake_up is None:
        return
    hook = _Nudge(context.label, work)
    # Asked of the connection, not remembered: a savepoint that is rolled back takes the hooks
    # registered in it along, and what is recorded after it has to be announced all the same.
    hooks: list[tuple[Any, ...]] = connections[context.database].run_on_commit
    if all(other != hook for _, other, *_ in hooks):
        transaction.on_commit(hook, using=context.database, robust=True)


@contextmanager
def gathered() -> Iterator[None]:
    """Send equal nudges at most five times a second within the block, the last one at its end.

    For movers, whose handlers record in one transaction after the other: the first nudge goes out
    at once and wakes somebody who then finds what the following ones would have announced.
    """
    if _gate.get() is not None:
        yield
        return
    gate = _Gate()
    token = _gate.set(gate)
    try:
        yield
    finally:
        _gate.reset(token)
        for hook in gate.held:
            hook.send()


@dataclass(frozen=True, slots=True)
class _Nudge:
    label: str
    work: MoverName

    def __call__(self) -> None:
        gate = _gate.get()
        if gate is None or gate.passes(self):
            self.send()

    def send(self) -> None:
        try:
            if settings().wake_up == "notify":
                notifier.send(get_context(self.label).database, self.label, self.work)
            else:
                celery.send(self.label, self.work)
        except Exception as error:  # noqa: BLE001  it is committed: whatever it is, polling will do
            celery.failures.note_failure(error, f"{self.work} {self.label}")


@dataclass(slots=True)
class _Gate:
    """Lets a nudge pass unless the same one passed a moment ago; keeps that for the end."""

    passed: dict[_Nudge, float] = field(default_factory=dict)
    held: set[_Nudge] = field(default_factory=set)

    def passes(self, hook: _Nudge) -> bool:
        now = time.monotonic()
        if now - self.passed.get(hook, float("-inf")) < _PAUSE:
            self.held.add(hook)
            return False
        self.passed[hook] = now
        self.held.discard(hook)
        return True


_gate: ContextVar[_Gate | None] = ContextVar("outbox_inbox.queues.wakeup", default=None)
