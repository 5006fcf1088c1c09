"""Nudges: after a commit that left work behind, wake up a worker to do it.

A nudge is never a message. The work is in the tables and polling finds it anyway, so a nudge that is
lost, late or sent twice costs time and nothing else. That is why it is sent after the commit, once a
transaction, and why its failure is only counted. ``WAKE_UP`` chooses the way: Celery's (``celery.py``)
or PostgreSQL's (``notifier.py``).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from django.db import connections, transaction

from outbox_inbox.conf import settings
from outbox_inbox.conf.clock import monotonic
from outbox_inbox.contexts import Context, get_context

from ..task_terms import TASKS, MoverName
from . import celery, notifier

__all__ = ["TASKS", "MoverName", "debounced_nudges", "failures", "nudge", "problem"]

_DEBOUNCE = 0.2  # seconds between two equal nudges within `debounced_nudges`


def failures() -> int:
    """Return how many nudges of this process were not sent, by all ways together."""
    return celery.failures.count + notifier.failures()


def problem() -> str | None:
    """Return what is wrong with the setting ``WAKE_UP``; None: nothing."""
    return notifier.problem() if settings().wake_up == "notify" else None


def nudge(context: Context, mover: MoverName = "relay") -> None:
    """Have a mover of a context called soon, if the transaction that is open commits.

    May be called any number of times: at most one nudge a transaction, context and mover is sent.
    It never raises, whatever is out of reach, and sends nothing in the caller's transaction.

    Arguments:
        context: the context that has work; its database is the one of the transaction.
        mover: "relay" (default), "receive", "dispatch" or "project".
    """
    if settings().wake_up is None:
        return
    hook = _Nudge(context.label, mover)
    # Read from the connection, not remembered: the rollback of a savepoint drops the hooks that were
    # registered in it, and what is recorded after it needs a nudge all the same.
    hooks: list[tuple[Any, ...]] = connections[context.database].run_on_commit
    if all(other != hook for _, other, *_ in hooks):
        transaction.on_commit(hook, using=context.database, robust=True)


@contextmanager
def debounced_nudges() -> Iterator[None]:
    """Send equal nudges at most five times a second within the block, the last one at its end."""
    # For movers, whose handlers record in one transaction after the other: the first nudge wakes up
    # a worker, which then finds what the following ones would have announced.
    if _gate.get() is not None:
        yield
        return
    gate = _Gate()
    token = _gate.set(gate)
    try:
        yield
    finally:
        _gate.reset(token)
        for hook in gate.delayed:
            hook.send()


@dataclass(frozen=True, slots=True)
class _Nudge:
    label: str
    mover: MoverName

    def __call__(self) -> None:
        gate = _gate.get()
        if gate is None or gate.passes(self):
            self.send()

    def send(self) -> None:
        try:
            if settings().wake_up == "notify":
                notifier.send_nudge(get_context(self.label).database, self.label, self.mover)
            else:
                celery.send_nudge(self.label, self.mover)
        except Exception as error:  # noqa: BLE001  it is committed: polling finds the work
            celery.failures.note_failure(error, f"{self.mover} {self.label}")


@dataclass(slots=True)
class _Gate:
    """Lets a nudge pass unless an equal one passed a moment ago; that one is sent at the end."""

    passed: dict[_Nudge, float] = field(default_factory=dict)
    delayed: set[_Nudge] = field(default_factory=set)

    def passes(self, hook: _Nudge) -> bool:
        now = monotonic()
        if now - self.passed.get(hook, float("-inf")) < _DEBOUNCE:
            self.delayed.add(hook)
            return False
        self.passed[hook] = now
        self.delayed.discard(hook)
        return True


_gate: ContextVar[_Gate | None] = ContextVar("outbox_inbox.queues.wakeup", default=None)
