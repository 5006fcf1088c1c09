"""Nudges: after a commit that left work behind, wake somebody up to do it.

A nudge is never a message. The work stands in the tables and is found by polling anyway, so a
nudge that is lost, late or doubled costs time and nothing else. That is why it is sent after the
commit, once a transaction, without retries, and why its failure is only counted.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from django.db import connections, transaction

from .conf import settings
from .contexts import Context
from .exceptions import SettingsError

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger(__name__)

Work = Literal["relay", "receive", "dispatch"]

TASKS: dict[Work, str] = {
    "relay": "outbox_inbox.relay_outbox",
    "receive": "outbox_inbox.receive_messages",
    "dispatch": "outbox_inbox.dispatch_inbox",
}
"""What is to be done -> the name of the Celery task that does it."""

EXPIRES = 10.0
"""Seconds after which a nudge that no worker took is dropped: the beat has long done its work."""

_TIMEOUT = 1.0  # seconds that a use case may lose to a broker that does not answer
_MUTE = 5.0  # seconds without nudges after one that failed, so that only one use case in many waits
_PAUSE = 0.2  # seconds between two equal nudges of one piece of work
_POOL = 4  # connections to the broker a process

_OPTIONS: dict[str, dict[str, float]] = {
    "redis": {"socket_timeout": _TIMEOUT, "socket_connect_timeout": _TIMEOUT},
    "py-amqp": {"read_timeout": _TIMEOUT, "write_timeout": _TIMEOUT},
}
"""Name of a kombu transport's driver -> its ways to say how long to wait."""


@dataclass(slots=True)
class _Record:
    """What became of the nudges of this process."""

    failures: int = 0
    muted_until: float = 0.0


_record = _Record()


def failures() -> int:
    """Return how many nudges of this process were not sent since the broker did not take them."""
    return _record.failures


def problem() -> str | None:
    """Say what is wrong with the setting ``WAKE_UP``; None: nothing."""
    way = settings().wake_up
    if way in (None, "celery"):
        return None
    return (
        f'OUTBOX_INBOX["WAKE_UP"] is {way!r}, which this version does not offer; '
        'expected "celery", or None to find work by polling'
    )


def nudge(context: Context, work: Work = "relay") -> None:
    """Have the work of a context done soon, if the transaction that is open commits.

    Called as often as one likes: at most one nudge a transaction, context and kind of work is
    sent. It never raises for a broker's sake, and never in the caller's transaction.

    Arguments:
        context: whose work; its database is the one of the transaction.
        work: "relay" (default), "receive" or "dispatch".

    Raises:
        SettingsError: ``WAKE_UP`` names a way that this version does not offer.
    """
    if settings().wake_up is None:
        return
    wrong = problem()
    if wrong:
        raise SettingsError(wrong)
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
    work: Work

    def __call__(self) -> None:
        gate = _gate.get()
        if gate is None or gate.passes(self):
            self.send()

    def send(self) -> None:
        if time.monotonic() < _record.muted_until:
            _record.failures += 1
            return
        try:
            _publish(TASKS[self.work], self.label)
        except Exception as error:  # noqa: BLE001  it is committed: whatever it is, beat will do
            _record.failures += 1
            _record.muted_until = time.monotonic() + _MUTE
            logger.warning(
                "no worker was woken up to %s %s: %s: %s (no further try for %d s; "
                "the work is safe and waits for the next beat)",
                self.work, self.label, type(error).__name__, error, _MUTE,
            )  # fmt: skip


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


_gate: ContextVar[_Gate | None] = ContextVar("outbox_inbox.wakeup", default=None)


def _publish(task: str, label: str) -> None:
    from celery.app import app_or_default

    app = app_or_default()
    if app.conf.task_always_eager:
        app.signature(task, kwargs={"context": label}, immutable=True).apply_async()
        return
    with _pool(app, os.getpid()).acquire(block=True, timeout=_TIMEOUT) as connection:
        try:
            app.send_task(
                task,
                kwargs={"context": label},
                connection=connection,
                expires=EXPIRES,
                ignore_result=True,
                add_to_parent=False,
                retry=False,
            )
        except BaseException:
            connection.close()  # else the next one that gets it fails as well
            raise


@cache
def _pool(app: "Celery", _process: int) -> Any:
    """Return connections that give up soon; Celery's own may wait for ever for a silent broker.

    The second argument is the process's id: one that was forked off needs connections of its own.
    """
    connection = app.connection_for_write(connect_timeout=_TIMEOUT)
    options: dict[str, Any] = dict(_OPTIONS.get(connection.transport.driver_name, {}))
    # One try for each of the broker's addresses.
    options |= {"max_retries": max(0, len(connection.alt) - 1), "interval_start": 0}
    return app.connection_for_write(connect_timeout=_TIMEOUT, transport_options=options).Pool(_POOL)
