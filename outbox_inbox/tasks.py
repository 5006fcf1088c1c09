"""Celery tasks: each carries a wake-up, never a message.

The messages are in the tables, so a task that is lost, late, duplicated or run beside another one
does no harm: a task that finds a partition locked goes on to the next one, or ends. From task to
task goes again only a wake-up (``queues.wakeup.nudge``), sent at once when ``WAKE_UP`` is "celery".
Without it, and when it gets lost, the next tick of beat finds the messages.

Importing this module needs Celery; no other module of the app does. It needs neither settings nor
models, since settings import it for `beat_schedule`: what moves messages is imported when it is
called.
"""

import random
from collections.abc import Callable
from datetime import timedelta
from math import ceil
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from celery import current_task, shared_task

from outbox_inbox.conf.clock import monotonic

from . import contexts
from .contexts import Context
from .queues.task_terms import TASKS, TIME_LIMITS

PRUNE = "outbox_inbox.prune_messages"

_RUN_TIME = timedelta(seconds=20)
"""How long a task runs at most, and so how long a worker that is stopped waits for it."""

_SHARE = 0.8
"""How much of a time limit of Celery's a task uses, so that it ends before the limit strikes."""

# It is raised at any place. Taken for a failure of the message in hand, it would cost an attempt, and the
# task would go on until its hard limit.
TIME_LIMITS.add(SoftTimeLimitExceeded)

Stop = Callable[[], bool]


def beat_schedule(
    every: timedelta = timedelta(seconds=1), prune_every: timedelta = timedelta(hours=1)
) -> dict[str, dict[str, Any]]:
    """Return the entries for ``CELERY_BEAT_SCHEDULE``; settings may call it.

    They are for Celery's own schedulers and for that of django-celery-beat, in the database.

    A tick that no worker took until the next one expires: a stopped worker would otherwise find
    thousands of them. The clocks of the machines that run beat and workers must not differ by more
    than ``every``.

    Arguments:
        every: how often to look for messages, default 1 s; the most that a message waits at each
            step when no worker was nudged.
        prune_every: how often to remove what is older than ``RETENTION``; default one hour.
    """
    ticks = {**dict.fromkeys(TASKS.values(), every), PRUNE: prune_every}
    return {
        name: {
            "task": name,
            "schedule": interval,
            "options": {
                "expires": interval.total_seconds(),
                # django-celery-beat keeps whole seconds, under this name, and drops the other one.
                "expire_seconds": max(1, ceil(interval.total_seconds())),
                "ignore_result": True,
            },
        }
        for name, interval in ticks.items()
    }


def _task(name: str) -> Callable[[Callable[[Context, Stop], object]], Any]:
    """Register a function of one context as a task for the context of a label (None: for all).

    The function is called again as long as it returns something true.
    """

    def register(function: Callable[[Context, Stop], object]) -> Any:
        def task(context: str | None = None) -> None:
            _call_for_each(context, function)

        task.__name__, task.__qualname__ = function.__name__, function.__qualname__
        task.__module__, task.__doc__ = function.__module__, function.__doc__
        # acks_late: acknowledged first, the wake-up of a worker that is killed would be lost.
        return shared_task(name=name, ignore_result=True, acks_late=True)(task)

    return register


@_task(TASKS["relay"])
def relay_outbox(context: Context, stop: Stop) -> int:
    """Send what is due in the outbox, and wake up the receivers."""
    from .outbox import relay
    from .queues.wakeup import nudge
    from .transports.routing import receivers

    outcome = relay.relay_outbox(context, stop=stop, once=True)
    if outcome.done:
        for subscriber, mover in receivers(context):
            nudge(subscriber, mover)
    return outcome.steps


@_task(TASKS["receive"])
def receive_messages(context: Context, stop: Stop) -> int:
    """Receive the messages that the transport has, and wake up the dispatcher."""
    from .inbox import receiver
    from .queues.wakeup import nudge

    outcome = receiver.receive_messages(context, stop=stop, once=True)
    if outcome.done:
        nudge(context, "dispatch")
    return outcome.steps


@_task(TASKS["dispatch"])
def dispatch_inbox(context: Context, stop: Stop) -> int:
    """Handle what is due in the inbox; what the handlers record wakes up the relay."""
    from .inbox import dispatcher

    return dispatcher.dispatch_inbox(context, stop=stop, once=True).steps


@_task(TASKS["project"])
def update_projections(context: Context, stop: Stop) -> int:
    """Update the read models from the stream."""
    from .streams import projecting

    return projecting.update_projections(context, stop=stop, once=True).steps


@_task(PRUNE)
def prune_messages(context: Context, stop: Stop) -> None:
    """Remove what is older than ``RETENTION`` from the queues."""
    from . import operations

    operations.prune([context], stop=stop)


def _call_for_each(label: str | None, function: Callable[[Context, Stop], object]) -> None:
    """Call the function for one context or for all; one that fails does not block the others.

    A call is one turn. Contexts that have more to do have another one, until the time is up.
    """
    from .queues.servers import renew_connections
    from .queues.wakeup import debounced_nudges

    chosen = contexts.contexts() if label is None else (contexts.get_context(label),)
    # In another order each time: where some contexts use up the whole time, the others would be
    # behind them at every tick.
    left = random.sample(chosen, len(chosen))
    renew_connections()
    deadline = monotonic() + _seconds_to_run()
    errors: list[Exception] = []

    def has_more(context: Context) -> bool:
        try:
            return bool(function(context, lambda: monotonic() > deadline))
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:  # noqa: BLE001  raised below
            error.add_note(f"in the context {context.label!r}")
            errors.append(error)
            return False

    with debounced_nudges():
        while left:
            left = [context for context in left if has_more(context) and monotonic() <= deadline]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ExceptionGroup("several contexts failed", errors)


def _seconds_to_run() -> float:
    """Return how long this task may begin new work: less than the limits under which it runs."""
    limits = [_RUN_TIME.total_seconds()]
    task: Any = current_task
    if task:  # a proxy: false outside of a task
        given = task.request.timelimit or (None, None)
        own = (task.time_limit, task.soft_time_limit)
        settings = task.app.conf
        every = (settings.task_time_limit, settings.task_soft_time_limit)
        limits += [_SHARE * limit for limit in (*given, *own, *every) if limit]
    return min(limits)
