"""Checks of how a database of contexts is configured, as far as its settings tell."""

from collections.abc import Iterator

from django.core.checks import CheckMessage
from django.db import connections

from .messages import error, warning


def check_autocommit(alias: str) -> Iterator[CheckMessage]:
    """E020: Django commits nothing, so that each message is moved again and again."""
    if not connections[alias].settings_dict.get("AUTOCOMMIT", True):
        yield error(
            "E020",
            f"The database {alias!r} has queues of contexts and AUTOCOMMIT False, with which Django "
            "commits nothing: no message could be marked as sent or handled.",
            f'Remove "AUTOCOMMIT" from DATABASES["{alias}"].',
        )


def check_isolation(alias: str) -> Iterator[CheckMessage]:
    """W009: a transaction that waited for another does not see what that one committed."""
    connection = connections[alias]
    if connection.vendor != "mysql":
        return
    # Django asks for this level on each connection by default.
    options = connection.settings_dict.get("OPTIONS", {})
    level = options.get("isolation_level", "read committed")
    if str(level).lower() != "read committed":
        named = "leave it to the server" if level is None else f"name {level!r}"
        yield warning(
            "W009",
            f"The database {alias!r} has queues of contexts, and its OPTIONS {named} as the "
            "isolation level.",
            f'Remove "isolation_level" from DATABASES["{alias}"]["OPTIONS"]; the default is "read '
            'committed". With another level, a transaction that has waited to append to a stream '
            "or to lock a partition continues with the rows as they were before.",
        )
