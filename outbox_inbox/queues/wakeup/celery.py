"""Celery's way: a nudge is a task without content, published with a short patience."""

import os
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from .failures import Failures

if TYPE_CHECKING:
    from celery import Celery

MoverName = Literal["relay", "receive", "dispatch", "project"]

TASKS: dict[MoverName, str] = {
    "relay": "outbox_inbox.relay_outbox",
    "receive": "outbox_inbox.receive_messages",
    "dispatch": "outbox_inbox.dispatch_inbox",
    "project": "outbox_inbox.update_projections",
}
"""What is to be done -> the name of the Celery task that does it."""

EXPIRES = 10.0
"""Seconds after which a nudge that no worker took is dropped: the beat has long done its work."""

_TIMEOUT = 1.0  # seconds that a use case may lose to a broker that does not answer
_POOL = 4  # connections to the broker a process

_OPTIONS: dict[str, dict[str, float]] = {
    "redis": {"socket_timeout": _TIMEOUT, "socket_connect_timeout": _TIMEOUT},
    "py-amqp": {"read_timeout": _TIMEOUT, "write_timeout": _TIMEOUT},
}
"""Name of a kombu transport's driver -> its ways to say how long to wait."""

failures = Failures()


def send(label: str, work: MoverName) -> None:
    """Publish one nudge, unless one failed a moment ago.

    Raises:
        Exception: whatever Celery, kombu or the broker's client raises.
    """
    if not failures.muted():
        publish(TASKS[work], label)


def publish(task: str, label: str) -> None:
    """Publish one task for one context, with one try and a hard time-out."""
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
