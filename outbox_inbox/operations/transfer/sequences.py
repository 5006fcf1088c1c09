"""The sequences that tables take ids from: they must move with the rows, or ids are given out twice."""

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.queues.statements.common import fetch_rows

RESERVE = 1_000_000_000
"""Ids that a context may use up between the beginning and the end of its transfer."""


def has_sequence(model: type[models.Model]) -> bool:
    """Return whether the database gives out the ids of the table."""
    return model._meta.auto_field in model._meta.local_concrete_fields


def last_id(connection: BaseDatabaseWrapper, model: type[models.Model]) -> int:
    """Return the last id that was given out or stored; 0 when there was none."""
    table, column = model._meta.db_table, str(model._meta.pk.column)
    quoted = connection.ops.quote_name
    ((stored,),) = fetch_rows(connection, f"SELECT MAX({quoted(column)}) FROM {quoted(table)}", [])
    return max(stored or 0, _last_given_out(connection, table, column))


def set_last_id(connection: BaseDatabaseWrapper, model: type[models.Model], value: int) -> None:
    """Make ``value + 1`` the next id, in the open transaction."""
    table, column = model._meta.db_table, str(model._meta.pk.column)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            name = _sequence_name(connection, table, column)
            if name:
                # A sequence cannot be at 0: at 1 and not called yet, its next value is 1.
                cursor.execute("SELECT setval(%s, %s, %s)", [name, value or 1, value > 0])
            return
        cursor.execute("UPDATE sqlite_sequence SET seq = %s WHERE name = %s", [value, table])
        if cursor.rowcount == 0 and value:
            cursor.execute(
                "INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, value]
            )


def _last_given_out(connection: BaseDatabaseWrapper, table: str, column: str) -> int:
    if connection.vendor == "postgresql":
        name = _sequence_name(connection, table, column)
        if not name:
            return 0
        ((value, used),) = fetch_rows(connection, f"SELECT last_value, is_called FROM {name}", [])
        return int(value) if used else 0
    ((found,),) = fetch_rows(
        connection, "SELECT MAX(seq) FROM sqlite_sequence WHERE name = %s", [table]
    )
    return int(found or 0)


def _sequence_name(connection: BaseDatabaseWrapper, table: str, column: str) -> str | None:
    parameters = [connection.ops.quote_name(table), column]
    ((name,),) = fetch_rows(connection, "SELECT pg_get_serial_sequence(%s, %s)", parameters)
    return None if name is None else str(name)
