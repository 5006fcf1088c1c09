"""Where the relay of a context finds what it must send: in the outbox, or in the stream as well."""

from django.core.signals import setting_changed
from django.db import connections

from outbox_inbox.contexts import Context

from .statements import checkpoints

RELAY = "(relay)"
"""The relay's subscription of the stream; no name that a user gives has parentheses."""

_followed: dict[tuple[str, str], bool] = {}
"""Database and label of contexts with an outbox -> whether their relay has a checkpoint."""


def _forget(*, setting: str, **_: object) -> None:
    if setting in ("OUTBOX_INBOX", "INSTALLED_APPS", "DATABASES"):
        _followed.clear()


setting_changed.connect(_forget, dispatch_uid="outbox_inbox.queues.relay_source")


def follows_stream(context: Context) -> bool:
    """Return whether the stream is the source of a relay, or was it and may have events left."""
    # A process asks the database once, since the source of a context changes with a deployment.
    name = (context.database, context.label)
    if context.source == "stream":
        _followed[name] = True
    elif name not in _followed:
        _followed[name] = checkpoints.checkpoint_exists(
            connections[context.database], context.label, RELAY
        )
    return _followed[name]


def stream_is_waiting(context: Context) -> bool:
    """Return whether there is something for the relay in a context's stream; at most one statement."""
    if not follows_stream(context):
        return False
    found = checkpoints.subscription_statuses(connections[context.database], [context.label])
    # Before the relay's first run, without a checkpoint, there may always be something.
    return all(each.ready for each in found if each.subscription == RELAY)
