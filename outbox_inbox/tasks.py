"""Celery tasks: each carries a wake-up, never a message.

The work stands in the tables, so a task that is lost, late, doubled or run beside another one does
no harm: whoever finds a partition taken goes on to the next or ends. What goes from one task to
the next is again a wake-up (``wakeup.nudge``), sent at once when ``WAKE_UP`` is "celery"; without
it, and when it gets lost, the next tick of beat finds the work.

Importing this module needs Celery; nothing else of the app does.
"""

from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Any

from celery import shared_task

from outbox_inbox.transports.routing import receivers

from . import contexts, operations
from .contexts import Context
from .inbox import dispatcher
from .inbox import receiver as receiving
from .outbox import relay
from .queues.wakeup import TASKS, debounced_nudges, nudge
from .streams import projecting

PRUNE = "outbox_inbox.prune_messages"

_SPELL = timedelta(seconds=20)
"""How long a task works on; a worker that is told to stop waits no longer for it."""


def beat_schedule(
    every: timedelta = timedelta(seconds=1), prune_every: timedelta = timedelta(hours=1)
) -> dict[str, dict[str, Any]]:
    """Return the entries for ``CELERY_BEAT_SCHEDULE``.

    A tick that no worker took until the next one is dropped. The clocks of the machines that run
    beat and workers must not differ by more than ``every``.

    Arguments:
        every: how often to look for work, default 1 s; the most that a message waits at each step
            when nobody was nudged.
        prune_every: how often to remove what is older than ``RETENTION``; default one hour.
    """
    ticks = {**dict.fromkeys(TASKS.values(), every), PRUNE: prune_every}
    return {
        name: {
            "task": name,
            "schedule": interval,
            "options": {"expires": interval.total_seconds(), "ignore_result": True},
        }
        for name, interval in ticks.items()
    }


@shared_task(name=TASKS["relay"], ignore_result=True, acks_late=True)
def relay_outbox(context: str | None = None) -> None:
    """Send what is due in the outbox of a context (None: of all), and wake up who gets it."""

    def work(owner: Context, stop: Callable[[], bool]) -> None:
        if relay.relay_outbox(owner, stop=stop).done:
            for receiver, next_work in receivers(owner):
                nudge(receiver, next_work)

    _for_each(context, work)


@shared_task(name=TASKS["receive"], ignore_result=True, acks_late=True)
def receive_messages(context: str | None = None) -> None:
    """Receive what the transport has for a context (None: for all), and wake up its dispatcher."""

    def work(owner: Context, stop: Callable[[], bool]) -> None:
        if receiving.receive_messages(owner, stop=stop).done:
            nudge(owner, "dispatch")

    _for_each(context, work)


@shared_task(name=TASKS["dispatch"], ignore_result=True, acks_late=True)
def dispatch_inbox(context: str | None = None) -> None:
    """Handle what is due in the inbox of a context (None: of all).

    What the handlers record wakes up the relay by itself.
    """

    def work(owner: Context, stop: Callable[[], bool]) -> None:
        dispatcher.dispatch_inbox(owner, stop=stop)

    _for_each(context, work)


@shared_task(name=TASKS["project"], ignore_result=True, acks_late=True)
def update_projections(context: str | None = None) -> None:
    """Bring the read models of a context (None: of all) up to date with its stream."""

    def work(owner: Context, stop: Callable[[], bool]) -> None:
        projecting.update_projections(owner, stop=stop)

    _for_each(context, work)


@shared_task(name=PRUNE, ignore_result=True, acks_late=True)
def prune_messages(context: str | None = None) -> None:
    """Remove what is older than ``RETENTION`` from the queues of a context (None: of all)."""

    def work(owner: Context, stop: Callable[[], bool]) -> None:
        operations.prune([owner], stop=stop)

    _for_each(context, work)


def _for_each(label: str | None, work: Callable[[Context, Callable[[], bool]], None]) -> None:
    """Do the work of one context or of all; one that fails does not keep the others waiting."""
    chosen = contexts.contexts() if label is None else (contexts.get_context(label),)
    deadline = monotonic() + _SPELL.total_seconds()
    errors: list[Exception] = []
    with debounced_nudges():
        for context in chosen:
            try:
                work(context, lambda: monotonic() > deadline)
            except Exception as error:  # noqa: BLE001  raised below
                error.add_note(f"while working for the context {context.label!r}")
                errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ExceptionGroup("several contexts could not be worked for", errors)
