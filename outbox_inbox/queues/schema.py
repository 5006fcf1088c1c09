"""Refuses to work on tables that lack what the promises rest on, and completes them after migrate.

They lack it where they were made from the models alone, as tests do with ``MIGRATE: False``. Without
this, a process would store a message twice or fail later, far from the cause.
"""

from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.exceptions import SettingsError
from outbox_inbox.models import Interest

from .statements.dialects import CLASSES
from .statements.schema import add_missing_parts, missing_parts

_complete: set[tuple[str, str]] = set()
"""Alias and name of the databases whose tables were found to be complete by this process."""


def require_schema(using: str) -> None:
    """Raise `SettingsError` if the tables in a database lack something; asks once a process.

    Called before the first message is recorded or moved, in the open transaction if there is one.
    """
    connection = connections[using]
    if _place(connection) in _complete:
        return
    if lacking := schema_problems(connection):
        raise SettingsError(
            f"the tables of outbox_inbox in the database {using!r} lack {', '.join(lacking)}: "
            "messages would be stored twice, or not be found. They were not made by its migrations. "
            f"Run manage.py migrate --database {using}, which adds it"
        )


def schema_problems(connection: BaseDatabaseWrapper) -> list[str]:
    """Return what the tables in a database lack; nothing where there are no tables."""
    if connection.vendor not in CLASSES:
        return []
    lacking = missing_parts(connection)
    if lacking == []:
        _complete.add(_place(connection))
    return lacking or []


def complete_schema(using: str) -> None:
    """Add what the tables in a database lack: called after ``migrate``.

    Raises:
        django.db.IntegrityError: rows violate a constraint that is missing.
    """
    connection = connections[using]
    if not router.allow_migrate_model(using, Interest):
        return
    if _place(connection) not in _complete and schema_problems(connection):
        add_missing_parts(connection)


def _place(connection: BaseDatabaseWrapper) -> tuple[str, str]:
    return connection.alias, str(connection.settings_dict["NAME"])
