"""Checks of what follows a stream: whether the database can serve it."""

from collections.abc import Iterator

from django.core.checks import CheckMessage
from django.db import connections

from outbox_inbox import cursors
from outbox_inbox.contexts import Context

from .messages import error


def check_source(context: Context) -> Iterator[CheckMessage]:
    """E010: the relay could not tell which events of the stream it has sent."""
    connection = connections[context.database]
    if context.source == "stream" and not cursors.serves(connection):
        yield error(
            "E010",
            f'It has source = "stream", and its database {context.database!r} is '
            f"{connection.vendor}, where no stream can be followed without losing events.",
            'Set source to "outbox", or keep the context on PostgreSQL or SQLite.',
            context.label,
        )


CHECKS = (check_source,)
