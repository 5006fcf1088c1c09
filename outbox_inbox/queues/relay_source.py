"""Where the relay of a context finds what it must send: in the outbox, or in the stream as well."""

from django.db import connections

from outbox_inbox.contexts import Context

from . import statements
from .layouts import declared_layout
from .statements import checkpoints
from .statements.layouts import RELAY


def follows_stream(context: Context) -> bool:
    """Return whether the stream is the source of a relay, or was it and may have events left."""
    return statements.follows_stream(connections[context.database], declared_layout(context))


def stream_is_waiting(context: Context) -> bool:
    """Return whether a context's stream, which its relay follows, has something for it."""
    found = checkpoints.subscription_statuses(connections[context.database], [context.label])
    # Before the relay's first run, without a checkpoint, there may always be something.
    return all(each.ready for each in found if each.subscription == RELAY)
