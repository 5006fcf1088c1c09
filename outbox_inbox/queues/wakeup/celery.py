"""Celery's way: a nudge is a task without content, published with one try and a short time-out.

With Celery's own retries a use case would wait seconds for a broker that is down.
"""

import os
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..task_terms import TASKS, MoverName
from .failures import Failures

if TYPE_CHECKING:
    from celery import Celery

EXPIRES = 10.0
"""Seconds after which a nudge that no worker took is dropped: the beat has done its work by then."""

_TASKS_MODULE = "outbox_inbox.tasks"
_TIMEOUT = 1.0  # seconds that a use case may wait for a broker that does not answer
_POOL = 4  # connections to the broker a process

_OPTIONS: dict[str, dict[str, float]] = {
    "redis": {"socket_timeout": _TIMEOUT, "socket_connect_timeout": _TIMEOUT},
    "py-amqp": {"read_timeout": _TIMEOUT, "write_timeout": _TIMEOUT},
}
"""Name of a kombu transport's driver -> its options for a time-out."""

failures = Failures()


def send_nudge(label: str, mover: MoverName) -> None:
    """Publish one nudge, unless one failed a moment ago; raises what the broker's client raises."""
    if not failures.muted():
        publish_task(TASKS[mover], label)


def publish_task(task: str, label: str) -> None:
    """Publish one task for one context, with one try and a hard time-out."""
    from celery.app import app_or_default

    app = app_or_default()
    if app.conf.task_always_eager:
        # A task that is not registered here would go to the broker, where no worker waits for it.
        if task not in app.tasks:
            import_module(_TASKS_MODULE)
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
            connection.close()  # a broken connection in the pool would fail the next nudge, too
            raise


@cache
def _pool(app: "Celery", _process: int) -> Any:
    """Return connections that give up soon; Celery's own may wait for ever for a silent broker."""
    # One pool for each process: after a fork the child would share the sockets of its parent, and
    # each would read the other's answers.
    connection = app.connection_for_write(connect_timeout=_TIMEOUT)
    options: dict[str, Any] = dict(_OPTIONS.get(connection.transport.driver_name, {}))
    # One try for each of the broker's addresses.
    options |= {"max_retries": max(0, len(connection.alt) - 1), "interval_start": 0}
    return app.connection_for_write(connect_timeout=_TIMEOUT, transport_options=options).Pool(_POOL)
